#include "client/progress.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

namespace cairn {
namespace {

constexpr absl::Duration kBarPeriod = absl::Milliseconds(100);
constexpr absl::Duration kLinePeriod = absl::Seconds(5);
constexpr int kBarWidth = 24;

std::string FormatLeft(absl::Duration left) {
  const int64_t seconds = absl::ToInt64Seconds(left);
  if (seconds >= 3600) {
    return absl::StrFormat("%d:%02d:%02d", seconds / 3600, seconds / 60 % 60,
                           seconds % 60);
  }
  return absl::StrFormat("%d:%02d", seconds / 60, seconds % 60);
}

std::string Bar(double share) {
  const int full = static_cast<int>(share * kBarWidth);
  return absl::StrCat("[", std::string(static_cast<size_t>(full), '='),
                      std::string(static_cast<size_t>(kBarWidth - full), ' '),
                      "]");
}

}  // namespace

std::string FormatBytes(int64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  if (unit == 0 || value >= 100) {
    return absl::StrFormat("%.0f %s", value, kUnits[unit]);
  }
  return absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

ProgressMeter::ProgressMeter(ProgressStyle style, std::string label,
                             int64_t total_bytes)
    : style_(style),
      label_(std::move(label)),
      total_(total_bytes),
      start_(absl::Now()),
      shown_(start_) {}

ProgressMeter::~ProgressMeter() {
  if (is_shown_ && (style_ == ProgressStyle::kBar || shown_done_ != done_)) {
    Show(true);
  }
}

void ProgressMeter::Add(int64_t bytes) { Set(done_ + bytes); }

void ProgressMeter::Set(int64_t done_bytes) {
  done_ = std::clamp<int64_t>(done_bytes, 0, total_);
  if (style_ == ProgressStyle::kNone) return;
  const absl::Duration period =
      style_ == ProgressStyle::kBar ? kBarPeriod : kLinePeriod;
  if (absl::Now() - shown_ >= period) Show(false);
}

std::string ProgressMeter::Line(absl::Duration elapsed) const {
  const double seconds = std::max(1e-3, absl::ToDoubleSeconds(elapsed));
  const double rate = static_cast<double>(done_) / seconds;
  const double share =
      total_ > 0 ? static_cast<double>(done_) / static_cast<double>(total_) : 1;
  std::string line = absl::StrFormat(
      "%s %3.0f%% %s of %s, %s/s", label_, share * 100, FormatBytes(done_),
      FormatBytes(total_), FormatBytes(static_cast<int64_t>(rate)));
  if (done_ < total_ && rate > 0) {
    absl::StrAppend(
        &line, ", ",
        FormatLeft(absl::Seconds(static_cast<double>(total_ - done_) / rate)),
        " left");
  }
  return line;
}

void ProgressMeter::Show(bool is_last) {
  shown_ = absl::Now();
  shown_done_ = done_;
  is_shown_ = true;
  const std::string line = Line(shown_ - start_);
  if (style_ == ProgressStyle::kLines) {
    std::fprintf(stderr, "%s\n", line.c_str());
    return;
  }
  const double share =
      total_ > 0 ? static_cast<double>(done_) / static_cast<double>(total_) : 1;
  std::fprintf(stderr, "\r\x1b[K%s %s%s", Bar(share).c_str(), line.c_str(),
               is_last ? "\n" : "");
  std::fflush(stderr);
}

}  // namespace cairn
