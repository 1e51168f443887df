#ifndef CAIRN_SERVER_FLOW_STAGE_H_
#define CAIRN_SERVER_FLOW_STAGE_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace cairn {

// A bounded, repeatable piece of the pipeline: takes records in one state and
// commits them in the next. The runner calls RunPass again at once while it
// moves something, and else after a change of the store or after `period()`.
// One thread runs a stage; a crash anywhere in it leaves records that the next
// pass picks up.
class Stage {
 public:
  virtual ~Stage() = default;

  // For logs and metrics, e.g. "screen".
  virtual absl::string_view name() const = 0;
  // How long a pass may be late when nothing in the store changes.
  virtual absl::Duration period() const { return absl::Seconds(5); }
  // Does a bounded amount of work; returns how many records it moved. An
  // error is about the stage as a whole and is tried again later; trouble
  // with one record is that record's verdict.
  virtual absl::StatusOr<int> RunPass() = 0;
  // Asks the pass under way, if any, to end early, and later ones to do
  // nothing. Called by another thread; for stages whose passes take seconds.
  virtual void EndSoon() {}
};

}  // namespace cairn

#endif  // CAIRN_SERVER_FLOW_STAGE_H_
