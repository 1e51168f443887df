#ifndef CAIRN_SERVER_OPS_EVENT_HANDLER_H_
#define CAIRN_SERVER_OPS_EVENT_HANDLER_H_

#include "cairn/v1/event.grpc.pb.h"
#include "core/rpc/stream_gate.h"
#include "server/auth/authenticated_call.h"
#include "server/ops/event_log.h"

namespace cairn {

// The EventService RPCs. A watcher holds no thread while nothing happens; a
// gate bounds their number. Everything given must outlive the server that it
// is registered with.
class EventHandler : public v1::EventService::CallbackService {
 public:
  EventHandler(EventLog& events, CallEnvironment calls, StreamGate& watchers)
      : events_(events), calls_(calls), watchers_(watchers) {}

  grpc::ServerUnaryReactor* ListEvents(
      grpc::CallbackServerContext* context,
      const v1::ListEventsRequest* request,
      v1::ListEventsResponse* response) override;
  grpc::ServerWriteReactor<v1::Event>* WatchEvents(
      grpc::CallbackServerContext* context,
      const v1::WatchEventsRequest* request) override;

 private:
  EventLog& events_;
  const CallEnvironment calls_;
  StreamGate& watchers_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_OPS_EVENT_HANDLER_H_
