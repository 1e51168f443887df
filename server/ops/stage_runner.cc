#include "server/ops/stage_runner.h"

#include <algorithm>

#include "core/base/log.h"

namespace cairn {
namespace {

constexpr absl::Duration kFirstDelay = absl::Milliseconds(200);
constexpr absl::Duration kLongestDelay = absl::Seconds(30);
// A stage is not woken more often than this by the commits of others.
constexpr absl::Duration kShortestPause = absl::Milliseconds(10);

}  // namespace

StageRunner::~StageRunner() { Stop(); }

void StageRunner::Add(Stage& stage) {
  stages_.push_back(&stage);
  tallies_.push_back(std::make_unique<Tally>());
  tallies_.back()->stage = &stage;
}

void StageRunner::Start() {
  for (size_t i = 0; i < stages_.size(); ++i) {
    threads_.emplace_back([this, stage = stages_[i],
                           tally = tallies_[i].get()](std::stop_token stop) {
      Loop(std::move(stop), *stage, *tally);
    });
  }
}

void StageRunner::Stop() {
  for (std::jthread& thread : threads_) thread.request_stop();
  for (Stage* stage : stages_) stage->EndSoon();
  store_.WakeAll();
  threads_.clear();
}

void StageRunner::Loop(std::stop_token stop, Stage& stage, Tally& tally) {
  absl::Duration delay = kFirstDelay;
  while (!stop.stop_requested()) {
    int64_t seen = store_.changes();
    absl::StatusOr<int> moved = stage.RunPass();
    if (!moved.ok()) {
      ++tally.failures;
      CAIRN_LOG(kWarning, "stage ", stage.name(), ": ",
                moved.status().ToString(), "; again in ",
                absl::FormatDuration(delay));
      // Commits of others do not shorten the wait: they would make a failing
      // stage spin.
      absl::Time until = absl::Now() + delay;
      while (!stop.stop_requested() && absl::Now() < until) {
        store_.WaitForChange(store_.changes(), until - absl::Now());
      }
      delay = std::min(delay * 2, kLongestDelay);
      continue;
    }
    delay = kFirstDelay;
    tally.moved += *moved;
    if (*moved > 0 || stop.stop_requested()) continue;
    store_.WaitForChange(seen, stage.period());
    absl::SleepFor(kShortestPause);
  }
}

}  // namespace cairn
