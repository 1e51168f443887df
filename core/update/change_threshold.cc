#include "core/update/change_threshold.h"

#include <algorithm>
#include <bit>

namespace cairn {
namespace {

constexpr size_t kBins = 1 << 16;

}  // namespace

ChangeThreshold::ChangeThreshold(int64_t kept) : wanted_(kept), bins_(kBins) {}

void ChangeThreshold::Count(absl::Span<const float> values) {
  for (float value : values) {
    const auto bits = std::bit_cast<uint32_t>(value);
    if (bits == 0) continue;
    if (pass_ == 0) {
      ++bins_[bits >> 16];
    } else if (bits >> 16 == threshold_ >> 16) {
      ++bins_[bits & 0xffff];
    }
  }
}

void ChangeThreshold::Add(const ChangeThreshold& other) {
  for (size_t bin = 0; bin < kBins; ++bin) bins_[bin] += other.bins_[bin];
}

void ChangeThreshold::EndPass() {
  size_t bin = kBins - 1;
  while (bin > 0 && bins_[bin] < wanted_) wanted_ -= bins_[bin--];
  threshold_ |= static_cast<uint32_t>(bin) << (pass_ == 0 ? 16 : 0);
  // Copies of a threshold that is found are small.
  bins_ = std::vector<int64_t>(++pass_ == kPasses ? 0 : kBins);
}

bool ChangeThreshold::IsLeast(float value) const {
  return std::bit_cast<uint32_t>(value) == threshold_;
}

ChangeThreshold ChangeThreshold::After(int64_t least) const {
  ChangeThreshold after = *this;
  after.wanted_ = std::max<int64_t>(0, wanted_ - least);
  return after;
}

bool ChangeThreshold::Keep(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if (bits != threshold_) return bits > threshold_;
  return wanted_-- > 0;
}

}  // namespace cairn
