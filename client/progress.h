#ifndef CAIRN_CLIENT_PROGRESS_H_
#define CAIRN_CLIENT_PROGRESS_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace cairn {

// How progress is shown on standard error.
enum class ProgressStyle {
  kNone,
  // One line redrawn in place, for a terminal.
  kBar,
  // A plain line every few seconds, for logs.
  kLines,
};

// "1.2 GiB", "640 KiB", "12 B".
std::string FormatBytes(int64_t bytes);

// Bytes done of a total, with rate and time left. Not thread-safe. Ends its
// line when it goes away.
class ProgressMeter {
 public:
  ProgressMeter(ProgressStyle style, std::string label, int64_t total_bytes);
  ~ProgressMeter();
  ProgressMeter(const ProgressMeter&) = delete;
  ProgressMeter& operator=(const ProgressMeter&) = delete;

  // May be negative: bytes that have to be moved again.
  void Add(int64_t bytes);
  // As an absolute figure.
  void Set(int64_t done_bytes);

  // The text shown `elapsed` after the start.
  std::string Line(absl::Duration elapsed) const;

 private:
  void Show(bool is_last);

  const ProgressStyle style_;
  const std::string label_;
  const int64_t total_;
  const absl::Time start_;
  int64_t done_ = 0;
  absl::Time shown_;
  int64_t shown_done_ = 0;
  bool is_shown_ = false;
};

}  // namespace cairn

#endif  // CAIRN_CLIENT_PROGRESS_H_
