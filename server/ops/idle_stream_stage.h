#ifndef CAIRN_SERVER_OPS_IDLE_STREAM_STAGE_H_
#define CAIRN_SERVER_OPS_IDLE_STREAM_STAGE_H_

#include "core/rpc/stream_gate.h"
#include "server/flow/stage.h"

namespace cairn {

// Ends streams that move bytes and have stood still for too long.
class IdleStreamStage : public Stage {
 public:
  // `gate` must outlive it.
  explicit IdleStreamStage(StreamGate& gate) : gate_(gate) {}

  absl::string_view name() const override { return "idle_streams"; }
  absl::StatusOr<int> RunPass() override {
    gate_.EndIdle();
    return 0;
  }

 private:
  StreamGate& gate_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_OPS_IDLE_STREAM_STAGE_H_
