#include "core/delta/counterpart.h"

#include <algorithm>

namespace cairn {

const CheckpointTensor* FindCounterpart(const Checkpoint& from,
                                        const TensorEntry& tensor) {
  const CheckpointTensor* before = from.Find(tensor.name);
  if (before == nullptr || before->dtype != tensor.dtype ||
      before->shape.size() != tensor.shape.size()) {
    return nullptr;
  }
  const size_t rows = tensor.shape.empty() ? 0 : 1;
  const bool has_same_rows = std::equal(
      before->shape.begin() + static_cast<ptrdiff_t>(rows),
      before->shape.end(), tensor.shape.begin() + static_cast<ptrdiff_t>(rows));
  return has_same_rows ? before : nullptr;
}

absl::Status ReadCounterpart(const Checkpoint& from,
                             const CheckpointTensor& counterpart, int64_t begin,
                             absl::Span<char> out) {
  const int64_t there = counterpart.end - counterpart.begin - begin;
  const auto known = static_cast<size_t>(
      std::clamp<int64_t>(there, 0, static_cast<int64_t>(out.size())));
  std::fill(out.begin() + static_cast<ptrdiff_t>(known), out.end(), '\0');
  if (known == 0) return absl::OkStatus();
  return from.ReadBytes(counterpart.name, begin, out.first(known));
}

}  // namespace cairn
