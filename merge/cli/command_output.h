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
// few seconds. Rate and time left go by what was done since the first Show, so
// that a resumed run does not look fast. Thread-safe. Clears itself when it
// goes.
class ProgressLine {
 public:
  ProgressLine(std::string unit, bool is_shown);
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // `note` stands at the end of the line.
  void Show(int64_t done, int64_t total, absl::string_view note = "");

 private:
  const std::string unit_;
  const bool is_shown_;
  const bool is_terminal_;
  Mutex mutex_;
  int64_t first_ ABSL_GUARDED_BY(mutex_) = -1;
  absl::Time started_ ABSL_GUARDED_BY(mutex_);
  absl::Time drawn_ ABSL_GUARDED_BY(mutex_);
  bool has_drawn_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_CLI_COMMAND_OUTPUT_H_
