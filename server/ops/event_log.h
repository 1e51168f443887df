#ifndef CAIRN_SERVER_OPS_EVENT_LOG_H_
#define CAIRN_SERVER_OPS_EVENT_LOG_H_

#include <cstdint>
#include <deque>
#include <string>

#include "absl/status/statusor.h"
#include "cairn/v1/event.pb.h"
#include "server/flow/caller.h"
#include "server/flow/hub_store.h"

namespace cairn {

// Follows a model's events from a place on. Not thread-safe.
class EventCursor {
 public:
  // The next event, or nullopt when there is none yet.
  absl::StatusOr<std::optional<v1::Event>> Next();

 private:
  friend class EventLog;
  EventCursor(const HubStore& store, std::string model, std::string subject,
              int64_t after)
      : store_(store),
        model_(std::move(model)),
        subject_(std::move(subject)),
        after_(after) {}

  const HubStore& store_;
  const std::string model_;
  const std::string subject_;
  int64_t after_;
  int64_t seen_changes_ = -1;
  std::deque<v1::Event> ahead_;
};

// What happened to a model, in order. Checks permissions itself. Thread-safe.
class EventLog {
 public:
  // `store` must outlive it and its cursors.
  explicit EventLog(HubStore& store) : store_(store) {}

  absl::StatusOr<v1::ListEventsResponse> List(
      const Caller& caller, const v1::ListEventsRequest& request) const;
  absl::StatusOr<EventCursor> Watch(
      const Caller& caller, const v1::WatchEventsRequest& request) const;

 private:
  HubStore& store_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_OPS_EVENT_LOG_H_
