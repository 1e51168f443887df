#include "server/suite/suite_catalog.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "server/auth/permission.h"
#include "server/flow/blob_ownership.h"
#include "server/flow/contribution_state.h"
#include "server/flow/policy_rules.h"
#include "server/flow/resource_names.h"
#include "server/flow/stored_files.h"
#include "server/gate/holdout.h"
#include "server/suite/suite_reader.h"

namespace cairn {
namespace {

using store::v1::ModelRecord;
using store::v1::SuiteRecord;

constexpr char kMethod[] = "AddSuite";
constexpr double kMarginMax = 10;

absl::Status CheckRequest(const v1::AddSuiteRequest& request) {
  if (!IsChosenId(request.suite_id())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "suite_id '", request.suite_id(),
        "' is not 1 to 64 lower-case letters, digits, '-', '_' or '.', "
        "beginning with a letter or digit"));
  }
  if (request.canary() && request.protected_()) {
    return absl::InvalidArgumentError(
        "a canary suite is not protected: nobody should get better at it, and "
        "losses there mean nothing");
  }
  if (request.has_margin() &&
      !(request.margin() > 0 && request.margin() <= kMarginMax)) {
    return absl::InvalidArgumentError(
        absl::StrCat("margin ", request.margin(),
                     " must be above 0 and at most ", kMarginMax));
  }
  return absl::OkStatus();
}

// The uploaded files, which the caller must have sent, sorted by path.
absl::StatusOr<std::vector<v1::File>> ClaimFiles(
    const HubReader& reader, BlobStore& blobs, const Caller& caller,
    const v1::AddSuiteRequest& request) {
  std::map<std::string, v1::File> by_path;
  std::vector<Digest> digests;
  for (const v1::File& file : request.files()) {
    auto digest = Digest::Parse(file.sha256());
    if (!digest.ok() || !by_path.emplace(file.path(), file).second) {
      return ReasonedError(
          absl::StatusCode::kInvalidArgument, "MALFORMED_FILE",
          absl::StrCat(file.path(), digest.ok()
                                        ? ": is listed twice"
                                        : ": sha256 is not 64 hex digits"),
          {{"file", file.path()}});
    }
    digests.push_back(*digest);
  }
  CAIRN_RETURN_IF_ERROR(ClaimBlobs(reader, blobs, caller.user, digests));
  std::vector<v1::File> out;
  for (auto& [path, file] : by_path) out.push_back(std::move(file));
  return out;
}

bool SameFiles(const SuiteRecord& there, const std::vector<v1::File>& files) {
  return std::equal(there.files().begin(), there.files().end(), files.begin(),
                    files.end(), [](const v1::File& a, const v1::File& b) {
                      return a.path() == b.path() && a.sha256() == b.sha256();
                    });
}

// What a suite with a dev split shows: its description and that split. Files
// of tensors may hold items of every split, so a suite that has any shows
// nothing.
std::vector<v1::File> PublicFiles(const SuiteDescription& described,
                                  const std::vector<v1::File>& files) {
  auto dev = described.splits.find("dev");
  if (dev == described.splits.end()) return {};
  std::vector<v1::File> out;
  for (const v1::File& file : files) {
    if (absl::EndsWith(file.path(), ".safetensors")) return {};
    if (file.path() == kSuiteFile || file.path() == dev->second ||
        file.path() == described.classes) {
      out.push_back(file);
    }
  }
  return out;
}

SuiteRecord Describe(const v1::AddSuiteRequest& request, const SuiteName& name,
                     const SuiteDescription& described,
                     const std::vector<v1::File>& files,
                     const v1::Policy& policy) {
  SuiteRecord record;
  v1::Suite& suite = *record.mutable_suite();
  suite.set_name(name.full());
  suite.set_state(v1::Suite::CHECKING);
  suite.set_kind(described.kind);
  suite.set_metric(described.metric);
  suite.set_protected_(request.protected_());
  suite.set_canary(request.canary());
  suite.set_margin(request.has_margin() ? request.margin()
                                        : PolicyMargin(policy, described.metric,
                                                       request.protected_()));
  suite.set_items(described.split_items.at("gate"));
  suite.set_description(described.description);
  suite.set_license(described.license);
  suite.set_higher_is_better(described.higher_is_better);
  suite.mutable_split_items()->insert(described.split_items.begin(),
                                      described.split_items.end());
  for (v1::File& file : PublicFiles(described, files)) {
    *suite.add_public_files() = std::move(file);
  }
  record.mutable_files()->Add(files.begin(), files.end());
  record.set_own_margin(request.has_margin());
  return record;
}

// What the items of a gate split hold, by digest.
using ItemDigests = std::set<std::string>;

// The gate items of every version of a suite so far.
absl::StatusOr<ItemDigests> EarlierGateItems(const HubReader& reader,
                                             const BlobStore& blobs,
                                             const SuiteName& name) {
  CAIRN_ASSIGN_OR_RETURN(auto versions, reader.ListAll<SuiteRecord>(
                                            absl::StrCat(name.full(), "/")));
  ItemDigests out;
  for (const SuiteRecord& version : versions) {
    CAIRN_ASSIGN_OR_RETURN(FileMap files,
                           OpenStoredFiles(blobs, version.files()));
    CAIRN_ASSIGN_OR_RETURN(SuiteDescription described, ReadSuite(files));
    out.merge(described.gate_items);
  }
  return out;
}

// Puts the suite as the next version, unless the newest one is the same. Its
// gate split begins an epoch when `is_fresh`: none of its items was used
// before.
absl::StatusOr<v1::Suite> PutNextVersion(HubTransaction& txn,
                                         const Caller& caller,
                                         const std::vector<v1::File>& files,
                                         bool is_fresh, SuiteRecord record) {
  v1::Suite& suite = *record.mutable_suite();
  const std::string model(ModelOf(suite.name()));
  auto newest = txn.GetSuite(suite.name());
  if (newest.ok()) {
    const v1::Suite& there = newest->suite();
    if (there.state() != v1::Suite::RETIRED && SameFiles(*newest, files) &&
        there.protected_() == suite.protected_() &&
        there.canary() == suite.canary() && there.margin() == suite.margin()) {
      return there;
    }
    suite.set_version(there.version() + 1);
    suite.set_epoch(EpochOf(there) + (is_fresh ? 1 : 0));
  } else if (absl::IsNotFound(newest.status())) {
    suite.set_version(1);
    suite.set_epoch(1);
  } else {
    return newest.status();
  }
  *suite.mutable_create_time() = ToTimestamp(txn.now());
  CAIRN_RETURN_IF_ERROR(txn.Put(record));
  v1::Event event;
  event.set_kind("suite.added");
  event.set_subject(suite.name());
  event.set_actor(caller.user);
  event.set_message(absl::StrCat(ShortName(suite.name()), " version ",
                                 suite.version(), " added, epoch ",
                                 suite.epoch()));
  CAIRN_RETURN_IF_ERROR(txn.AppendEvent(model, std::move(event)));
  return record.suite();
}

}  // namespace

absl::StatusOr<v1::Suite> SuiteCatalog::Add(
    const Caller& caller, const v1::AddSuiteRequest& request) {
  CAIRN_ASSIGN_OR_RETURN(ModelName model, ModelName::Parse(request.parent()));
  CAIRN_RETURN_IF_ERROR(
      Authorize(caller, Permission::kManageSuites, model.full()));
  CAIRN_RETURN_IF_ERROR(CheckRequest(request));
  CAIRN_ASSIGN_OR_RETURN(SuiteName name,
                         SuiteName::From(model, request.suite_id()));
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(
      auto replayed, snapshot.Replayed<v1::Suite>(
                         caller.user, kMethod, request.request_id(), request));
  CAIRN_ASSIGN_OR_RETURN(auto current, snapshot.Get<ModelRecord>(model.full()));
  if (replayed.has_value()) {
    return ViewSuite(snapshot, *std::move(replayed), current.model().policy());
  }
  CAIRN_ASSIGN_OR_RETURN(std::vector<v1::File> files,
                         ClaimFiles(snapshot, blobs_, caller, request));
  CAIRN_ASSIGN_OR_RETURN(FileMap sources,
                         OpenStoredFiles(blobs_, request.files()));
  CAIRN_ASSIGN_OR_RETURN(SuiteDescription described, ReadSuite(sources));
  CAIRN_ASSIGN_OR_RETURN(ItemDigests earlier,
                         EarlierGateItems(snapshot, blobs_, name));
  const bool is_fresh = std::none_of(
      described.gate_items.begin(), described.gate_items.end(),
      [&](const std::string& item) { return earlier.contains(item); });
  v1::Suite suite;
  absl::Status added =
      store_.Transact([&](HubTransaction& txn) -> absl::Status {
        CAIRN_ASSIGN_OR_RETURN(auto owner, txn.Get<ModelRecord>(model.full()));
        SuiteRecord record =
            Describe(request, name, described, files, owner.model().policy());
        CAIRN_ASSIGN_OR_RETURN(
            suite,
            PutNextVersion(txn, caller, files, is_fresh, std::move(record)));
        return txn.Remember(caller.user, kMethod, request.request_id(), request,
                            suite);
      });
  if (!added.ok()) return added;
  return ViewSuite(store_.Read(), std::move(suite), current.model().policy());
}

absl::StatusOr<v1::Suite> SuiteCatalog::Get(
    const Caller& caller, const v1::GetSuiteRequest& request) const {
  CAIRN_ASSIGN_OR_RETURN(SuiteName name, SuiteName::Parse(request.name()));
  HubSnapshot snapshot = store_.Read();
  CAIRN_RETURN_IF_ERROR(
      AuthorizeRead(snapshot, caller, Permission::kRead, name.model().full()));
  CAIRN_ASSIGN_OR_RETURN(auto record, snapshot.GetSuite(name.full()));
  CAIRN_ASSIGN_OR_RETURN(auto model,
                         snapshot.Get<ModelRecord>(name.model().full()));
  return ViewSuite(snapshot, std::move(*record.mutable_suite()),
                   model.model().policy());
}

absl::StatusOr<v1::ListSuitesResponse> SuiteCatalog::List(
    const Caller& caller, const v1::ListSuitesRequest& request) const {
  CAIRN_ASSIGN_OR_RETURN(ModelName model, ModelName::Parse(request.parent()));
  HubSnapshot snapshot = store_.Read();
  CAIRN_RETURN_IF_ERROR(
      AuthorizeRead(snapshot, caller, Permission::kRead, model.full()));
  CAIRN_ASSIGN_OR_RETURN(auto owner, snapshot.Get<ModelRecord>(model.full()));
  if (!request.page_token().empty() || request.page_size() < 0) {
    return absl::InvalidArgumentError(
        request.page_size() < 0
            ? absl::StrCat("page_size ", request.page_size(), " is negative")
            : std::string("page_token is not one that a previous page gave"));
  }
  CAIRN_ASSIGN_OR_RETURN(auto suites, snapshot.NewestSuites(model.full()));
  v1::ListSuitesResponse response;
  for (SuiteRecord& record : suites) {
    CAIRN_ASSIGN_OR_RETURN(
        *response.add_items(),
        ViewSuite(snapshot, std::move(*record.mutable_suite()),
                  owner.model().policy()));
  }
  return response;
}

}  // namespace cairn
