#ifndef CAIRN_MERGE_CLI_COMMAND_OUTPUT_H_
#define CAIRN_MERGE_CLI_COMMAND_OUTPUT_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"

namespace cairn {

// What the local commands share: results go to stdout, everything else to
// stderr.

inline constexpr int kUsageExit = 2;

// The documented exit code of a failed command.
int ExitCodeOf(const absl::Status& status);

// Tells why a command failed: the text on stderr and, with `json`, a document
// {"error": {...}} on stdout. Returns the exit code.
int Fail(absl::string_view command, const absl::Status& status, bool json);

// A progress line on stderr: redrawn on a terminal, else a plain line every
// few seconds. Thread-safe. Clears itself when it goes.
class ProgressLine {
 public:
  ProgressLine(std::string unit, bool is_shown);
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  void Show(int64_t done, int64_t total);

 private:
  const std::string unit_;
  const bool is_shown_;
  const bool is_terminal_;
  const absl::Time started_;
  Mutex mutex_;
  absl::Time drawn_ ABSL_GUARDED_BY(mutex_);
  bool has_drawn_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_CLI_COMMAND_OUTPUT_H_
