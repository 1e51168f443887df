#include "server/release/tag_table.h"

#include <algorithm>
#include <optional>
#include <set>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "server/auth/permission.h"
#include "server/flow/contribution_state.h"
#include "server/flow/resource_names.h"
#include "server/release/release_resolver.h"

namespace cairn {
namespace {

using store::v1::ReleaseRecord;
using store::v1::TagRecord;

constexpr size_t kTagIdMax = 64;
constexpr size_t kNoteMax = 4096;

bool LooksLikeVersion(absl::string_view id) {
  return id.size() > 1 && (id[0] == 'v' || id[0] == 'V') &&
         absl::ascii_isdigit(static_cast<unsigned char>(id[1]));
}

bool LooksLikeHex(absl::string_view id) {
  return id.size() >= kHexPrefixMin &&
         std::all_of(id.begin(), id.end(), [](char c) {
           return absl::ascii_isxdigit(static_cast<unsigned char>(c));
         });
}

absl::StatusOr<TagName> ParseTag(absl::string_view name) {
  CAIRN_ASSIGN_OR_RETURN(TagName tag, TagName::Parse(name));
  CAIRN_RETURN_IF_ERROR(CheckTagId(tag.id()));
  return tag;
}

absl::Status CheckNote(absl::string_view note) {
  if (note.empty() || note.size() > kNoteMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("note is ", note.empty() ? "empty" : "too long",
                     "; say why in at most ", kNoteMax, " bytes"));
  }
  return absl::OkStatus();
}

absl::Status Mismatch(const TagName& tag, absl::string_view what) {
  return ReasonedError(absl::StatusCode::kAborted, "ETAG_MISMATCH",
                       absl::StrCat("tag ", tag.id(), " ", what,
                                    "; read it again and repeat the decision"),
                       {{"resource", tag.full()}});
}

// A wanted move of a tag.
struct TagMove {
  TagName tag;
  std::string release;  // any reference
  std::string etag;
  std::string expect;  // any reference; empty: not given
  std::string kind;    // of the event
  std::string note;
};

// Compares the tag as it is with what the request saw of it.
absl::Status CompareTag(const HubReader& reader, const TagMove& move,
                        const std::optional<TagRecord>& there) {
  if (!there.has_value()) {
    if (move.etag.empty() && move.expect.empty()) return absl::OkStatus();
    return Mismatch(move.tag, "does not exist (any more)");
  }
  if (!move.expect.empty()) {
    CAIRN_ASSIGN_OR_RETURN(
        auto expected, ResolveReference(reader, move.tag.model(), move.expect));
    if (expected.release().name() != there->tag().release()) {
      return Mismatch(
          move.tag, absl::StrCat("names ", there->tag().release(), " and not ",
                                 expected.release().name()));
    }
  } else if (move.etag.empty()) {
    return Mismatch(move.tag,
                    absl::StrCat("exists and names ", there->tag().release(),
                                 ", and the request carries no etag"));
  }
  return CheckEtag(move.tag.full(), there->tag().etag(), move.etag);
}

absl::StatusOr<v1::Tag> MoveTag(HubTransaction& txn, const Caller& caller,
                                const TagMove& move) {
  CAIRN_RETURN_IF_ERROR(
      txn.Get<store::v1::ModelRecord>(move.tag.model().full()));
  CAIRN_ASSIGN_OR_RETURN(auto target,
                         ResolveReference(txn, move.tag.model(), move.release));
  const std::string& name = target.release().name();
  CAIRN_ASSIGN_OR_RETURN(auto there, txn.Find<TagRecord>(move.tag.full()));
  if (there.has_value() && there->tag().release() == name &&
      move.expect.empty()) {
    return there->tag();
  }
  CAIRN_RETURN_IF_ERROR(CompareTag(txn, move, there));
  std::string before = there.has_value() ? there->tag().release() : "";
  TagRecord record;
  record.mutable_tag()->set_name(move.tag.full());
  record.mutable_tag()->set_release(name);
  *record.mutable_tag()->mutable_update_time() = ToTimestamp(txn.now());
  CAIRN_RETURN_IF_ERROR(txn.Put(record));
  if (move.tag.id() == kLatestTag) {
    CAIRN_RETURN_IF_ERROR(MarkRolledBack(txn, before, name));
  }
  v1::Event event;
  event.set_kind(move.kind);
  event.set_subject(move.tag.full());
  event.set_actor(caller.user);
  event.set_message(absl::StrCat(
      move.tag.id(), ": ", before.empty() ? "" : ShortName(before), " -> ",
      ShortName(name), move.note.empty() ? "" : ": ", move.note));
  event.add_related(name);
  if (!before.empty()) event.add_related(before);
  CAIRN_RETURN_IF_ERROR(
      txn.AppendEvent(move.tag.model().full(), std::move(event)));
  return record.tag();
}

absl::StatusOr<v1::Tag> RunMove(HubStore& store, const Caller& caller,
                                const TagMove& move) {
  v1::Tag tag;
  absl::Status moved = store.Transact([&](HubTransaction& txn) -> absl::Status {
    CAIRN_ASSIGN_OR_RETURN(tag, MoveTag(txn, caller, move));
    return absl::OkStatus();
  });
  if (!moved.ok()) return moved;
  return tag;
}

// A release and its ancestors.
absl::StatusOr<std::set<std::string>> LineOf(const HubReader& reader,
                                             std::string release) {
  std::set<std::string> line;
  while (!release.empty() && line.insert(release).second) {
    CAIRN_ASSIGN_OR_RETURN(auto record, reader.Get<ReleaseRecord>(release));
    release = record.release().parent();
  }
  return line;
}

absl::Status SetRolledBack(HubTransaction& txn, const std::string& release,
                           bool rolled_back) {
  CAIRN_ASSIGN_OR_RETURN(auto record, txn.Get<ReleaseRecord>(release));
  if (record.release().rolled_back() == rolled_back) return absl::OkStatus();
  record.mutable_release()->set_rolled_back(rolled_back);
  return txn.Put(record);
}

}  // namespace

absl::Status CheckTagId(absl::string_view id) {
  absl::string_view problem;
  if (id.empty() || id.size() > kTagIdMax || !IsResourceId(id)) {
    problem =
        "is not 1 to 64 letters, digits, '-', '_' or '.', beginning with a "
        "letter or digit";
  } else if (id.find("..") != absl::string_view::npos) {
    problem = "holds '..'";
  } else if (LooksLikeVersion(id)) {
    problem = "looks like a version";
  } else if (LooksLikeHex(id)) {
    problem = "looks like a digest or commit";
  } else {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("tag name '", id, "' ", problem, "; choose another"));
}

absl::Status MarkRolledBack(HubTransaction& transaction, absl::string_view from,
                            absl::string_view to) {
  CAIRN_ASSIGN_OR_RETURN(auto old_line, LineOf(transaction, std::string(from)));
  CAIRN_ASSIGN_OR_RETURN(auto new_line, LineOf(transaction, std::string(to)));
  for (const std::string& release : old_line) {
    if (new_line.contains(release)) continue;
    CAIRN_RETURN_IF_ERROR(SetRolledBack(transaction, release, true));
  }
  for (const std::string& release : new_line) {
    if (old_line.contains(release)) continue;
    CAIRN_RETURN_IF_ERROR(SetRolledBack(transaction, release, false));
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::Tag> TagTable::Get(const Caller& caller,
                                      const v1::GetTagRequest& request) const {
  CAIRN_ASSIGN_OR_RETURN(TagName tag, TagName::Parse(request.name()));
  HubSnapshot snapshot = store_.Read();
  CAIRN_RETURN_IF_ERROR(
      AuthorizeRead(snapshot, caller, Permission::kRead, tag.model().full()));
  CAIRN_ASSIGN_OR_RETURN(auto record, snapshot.Get<TagRecord>(tag.full()));
  return record.tag();
}

absl::StatusOr<v1::ListTagsResponse> TagTable::List(
    const Caller& caller, const v1::ListTagsRequest& request) const {
  CAIRN_ASSIGN_OR_RETURN(ModelName model, ModelName::Parse(request.parent()));
  HubSnapshot snapshot = store_.Read();
  CAIRN_RETURN_IF_ERROR(
      AuthorizeRead(snapshot, caller, Permission::kRead, model.full()));
  CAIRN_RETURN_IF_ERROR(snapshot.Get<store::v1::ModelRecord>(model.full()));
  CAIRN_ASSIGN_OR_RETURN(
      auto page,
      snapshot.List<TagRecord>(TagName::Parent(model),
                               {request.page_size(), request.page_token()}));
  v1::ListTagsResponse response;
  for (auto& record : page.records) {
    *response.add_items() = std::move(*record.mutable_tag());
  }
  response.set_next_page_token(page.next_token);
  return response;
}

absl::StatusOr<v1::Tag> TagTable::Set(const Caller& caller,
                                      const v1::SetTagRequest& request) {
  CAIRN_ASSIGN_OR_RETURN(TagName tag, ParseTag(request.name()));
  CAIRN_RETURN_IF_ERROR(
      Authorize(caller, Permission::kManageReleases, tag.model().full()));
  return RunMove(store_, caller,
                 {.tag = tag,
                  .release = request.release(),
                  .etag = request.etag(),
                  .expect = request.expect(),
                  .kind = "tag.moved",
                  .note = ""});
}

absl::StatusOr<v1::DeleteTagResponse> TagTable::Delete(
    const Caller& caller, const v1::DeleteTagRequest& request) {
  CAIRN_ASSIGN_OR_RETURN(TagName tag, ParseTag(request.name()));
  CAIRN_RETURN_IF_ERROR(
      Authorize(caller, Permission::kManageReleases, tag.model().full()));
  if (tag.id() == kLatestTag) {
    return absl::FailedPreconditionError(
        "latest cannot be deleted: it names the head; move it with rollback");
  }
  absl::Status deleted =
      store_.Transact([&](HubTransaction& txn) -> absl::Status {
        CAIRN_ASSIGN_OR_RETURN(auto there, txn.Get<TagRecord>(tag.full()));
        if (request.etag().empty()) {
          return Mismatch(tag, "exists, and the request carries no etag");
        }
        CAIRN_RETURN_IF_ERROR(
            CheckEtag(tag.full(), there.tag().etag(), request.etag()));
        CAIRN_RETURN_IF_ERROR(txn.Delete<TagRecord>(tag.full()));
        v1::Event event;
        event.set_kind("tag.deleted");
        event.set_subject(tag.full());
        event.set_actor(caller.user);
        event.set_message(absl::StrCat(tag.id(), " no longer names ",
                                       ShortName(there.tag().release())));
        event.add_related(there.tag().release());
        return txn.AppendEvent(tag.model().full(), std::move(event));
      });
  if (!deleted.ok()) return deleted;
  return v1::DeleteTagResponse();
}

absl::StatusOr<v1::Tag> TagTable::Rollback(const Caller& caller,
                                           const v1::RollbackRequest& request) {
  CAIRN_ASSIGN_OR_RETURN(TagName tag, ParseTag(request.name()));
  CAIRN_RETURN_IF_ERROR(
      Authorize(caller, Permission::kManageReleases, tag.model().full()));
  CAIRN_RETURN_IF_ERROR(CheckNote(request.note()));
  CAIRN_RETURN_IF_ERROR(store_.Read().Get<TagRecord>(tag.full()));
  return RunMove(store_, caller,
                 {.tag = tag,
                  .release = request.release(),
                  .etag = request.etag(),
                  .expect = "",
                  .kind = "tag.rolled_back",
                  .note = request.note()});
}

}  // namespace cairn
