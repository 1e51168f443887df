#include "server/ops/event_handler.h"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "core/base/status_macros.h"
#include "core/rpc/server_stream.h"

namespace cairn {
namespace {

constexpr absl::Duration kLookInterval = absl::Milliseconds(200);

// The events of one watcher; the caller is looked up on the pool, when the
// first is asked for.
class EventSource : public StreamSource<v1::Event> {
 public:
  EventSource(const EventLog& events, const TokenAuthority& tokens,
              std::string authorization, v1::WatchEventsRequest request)
      : events_(events),
        tokens_(tokens),
        authorization_(std::move(authorization)),
        request_(std::move(request)) {}

  absl::StatusOr<Step> Next(v1::Event& response) override {
    if (cursor_ == nullptr) {
      CAIRN_ASSIGN_OR_RETURN(Caller caller, tokens_.Identify(authorization_));
      CAIRN_ASSIGN_OR_RETURN(EventCursor cursor,
                             events_.Watch(caller, request_));
      cursor_ = std::make_unique<EventCursor>(std::move(cursor));
    }
    CAIRN_ASSIGN_OR_RETURN(auto event, cursor_->Next());
    if (!event.has_value()) return Step::kWait;
    response = *std::move(event);
    return Step::kMessage;
  }

 private:
  const EventLog& events_;
  const TokenAuthority& tokens_;
  const std::string authorization_;
  const v1::WatchEventsRequest request_;
  std::unique_ptr<EventCursor> cursor_;
};

}  // namespace

grpc::ServerUnaryReactor* EventHandler::ListEvents(
    grpc::CallbackServerContext* context, const v1::ListEventsRequest* request,
    v1::ListEventsResponse* response) {
  return HandleCall(context, calls_, request, response,
                    std::bind_front(&EventLog::List, &events_));
}

grpc::ServerWriteReactor<v1::Event>* EventHandler::WatchEvents(
    grpc::CallbackServerContext* context,
    const v1::WatchEventsRequest* request) {
  auto pass = watchers_.Admit(nullptr, CallerKey(*context));
  if (!pass.ok()) return RefuseSending<v1::Event>(pass.status());
  return SendStream<v1::Event>(
      context, calls_.pool,
      std::make_unique<EventSource>(events_, calls_.tokens,
                                    AuthorizationOf(*context), *request),
      *std::move(pass), kLookInterval);
}

}  // namespace cairn
