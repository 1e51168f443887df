#include "server/ops/event_log.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/auth/permission.h"
#include "server/flow/resource_names.h"

namespace cairn {
namespace {

using store::v1::EventRecord;

constexpr size_t kPageDefault = 50;
constexpr size_t kPageMax = 1000;
constexpr size_t kScanMax = 4096;

bool Concerns(const v1::Event& event, absl::string_view subject) {
  return subject.empty() || event.subject() == subject ||
         std::find(event.related().begin(), event.related().end(), subject) !=
             event.related().end();
}

// Events after a number, without gaps: each has the key of its number. Looks
// at no more than kScanMax, so a page may be short; `*last` is the last number
// looked at.
absl::StatusOr<std::vector<v1::Event>> ReadAfter(const HubReader& reader,
                                                 const std::string& model,
                                                 absl::string_view subject,
                                                 size_t limit, int64_t& last) {
  std::vector<v1::Event> out;
  for (size_t looked = 0; looked < kScanMax && out.size() < limit; ++looked) {
    CAIRN_ASSIGN_OR_RETURN(
        auto record, reader.Find<EventRecord>(EventName(model, last + 1)));
    if (!record.has_value()) break;
    ++last;
    if (Concerns(record->event(), subject)) {
      out.push_back(std::move(*record->mutable_event()));
    }
  }
  return out;
}

absl::StatusOr<ModelName> MayRead(const HubReader& reader, const Caller& caller,
                                  absl::string_view parent) {
  CAIRN_ASSIGN_OR_RETURN(ModelName model, ModelName::Parse(parent));
  CAIRN_RETURN_IF_ERROR(
      AuthorizeRead(reader, caller, Permission::kRead, model.full()));
  CAIRN_RETURN_IF_ERROR(reader.Get<store::v1::ModelRecord>(model.full()));
  return model;
}

// The number of a model's newest event: numbers have no gaps, so doubling and
// halving finds it.
absl::StatusOr<int64_t> NewestEvent(const HubReader& reader,
                                    const std::string& model) {
  auto exists = [&](int64_t number) -> absl::StatusOr<bool> {
    CAIRN_ASSIGN_OR_RETURN(auto record,
                           reader.Find<EventRecord>(EventName(model, number)));
    return record.has_value();
  };
  int64_t there = 0, absent = 1;
  for (;;) {
    CAIRN_ASSIGN_OR_RETURN(bool found, exists(absent));
    if (!found) break;
    there = absent;
    absent *= 2;
  }
  while (absent - there > 1) {
    int64_t middle = there + (absent - there) / 2;
    CAIRN_ASSIGN_OR_RETURN(bool found, exists(middle));
    (found ? there : absent) = middle;
  }
  return there;
}

}  // namespace

absl::StatusOr<std::optional<v1::Event>> EventCursor::Next() {
  if (ahead_.empty()) {
    // Nothing was committed since nothing was found: no need to look.
    int64_t changes = store_.changes();
    if (changes == seen_changes_) return std::optional<v1::Event>();
    int64_t before = after_;
    CAIRN_ASSIGN_OR_RETURN(
        auto events,
        ReadAfter(store_.Read(), model_, subject_, kPageDefault, after_));
    if (after_ == before) seen_changes_ = changes;
    ahead_.assign(std::make_move_iterator(events.begin()),
                  std::make_move_iterator(events.end()));
    if (ahead_.empty()) return std::optional<v1::Event>();
  }
  v1::Event next = std::move(ahead_.front());
  ahead_.pop_front();
  return std::optional<v1::Event>(std::move(next));
}

absl::StatusOr<v1::ListEventsResponse> EventLog::List(
    const Caller& caller, const v1::ListEventsRequest& request) const {
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(ModelName model,
                         MayRead(snapshot, caller, request.parent()));
  if (request.page_size() < 0 || request.after() < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        request.page_size() < 0 ? "page_size" : "after", " is negative"));
  }
  size_t size =
      request.page_size() == 0
          ? kPageDefault
          : std::min(static_cast<size_t>(request.page_size()), kPageMax);
  int64_t last = request.after();
  CAIRN_ASSIGN_OR_RETURN(auto events, ReadAfter(snapshot, model.full(),
                                                request.subject(), size, last));
  v1::ListEventsResponse response;
  for (v1::Event& event : events) *response.add_items() = std::move(event);
  CAIRN_ASSIGN_OR_RETURN(
      auto more, snapshot.Find<EventRecord>(EventName(model.full(), last + 1)));
  response.set_more(more.has_value());
  return response;
}

absl::StatusOr<EventCursor> EventLog::Watch(
    const Caller& caller, const v1::WatchEventsRequest& request) const {
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(ModelName model,
                         MayRead(snapshot, caller, request.parent()));
  int64_t after = request.after();
  if (after < -1) {
    return absl::InvalidArgumentError(
        absl::StrCat("after is ", after, "; it is a sequence number, or -1"));
  }
  if (after == -1) {
    CAIRN_ASSIGN_OR_RETURN(after, NewestEvent(snapshot, model.full()));
  }
  return EventCursor(store_, model.full(), request.subject(), after);
}

}  // namespace cairn
