#ifndef CAIRN_SERVER_OPS_STAGE_RUNNER_H_
#define CAIRN_SERVER_OPS_STAGE_RUNNER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "server/flow/hub_store.h"
#include "server/flow/stage.h"

namespace cairn {

// Runs each stage on a thread of its own: again at once while a pass moves
// something, else after a change of the store or the stage's period. A stage
// that fails is logged and tried again with growing delays. Start() and Stop()
// are for one thread.
class StageRunner {
 public:
  // What became of a stage's passes.
  struct Tally {
    const Stage* stage = nullptr;
    std::atomic<int64_t> moved = 0;
    std::atomic<int64_t> failures = 0;
  };

  // `store` must outlive the runner, and so must the stages.
  explicit StageRunner(HubStore& store) : store_(store) {}
  // As Stop().
  ~StageRunner();
  StageRunner(const StageRunner&) = delete;
  StageRunner& operator=(const StageRunner&) = delete;

  // Before Start().
  void Add(Stage& stage);
  void Start();
  // Lets the passes under way end, then joins the threads.
  void Stop();

  const std::vector<std::unique_ptr<Tally>>& tallies() const {
    return tallies_;
  }

 private:
  void Loop(std::stop_token stop, Stage& stage, Tally& tally);

  HubStore& store_;
  std::vector<Stage*> stages_;
  std::vector<std::unique_ptr<Tally>> tallies_;
  std::vector<std::jthread> threads_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_OPS_STAGE_RUNNER_H_
