#ifndef CAIRN_MERGE_METHOD_TESTING_RUN_METHOD_H_
#define CAIRN_MERGE_METHOD_TESTING_RUN_METHOD_H_

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "merge/method/tensor_method.h"

namespace cairn::testing {

// A whole tensor in memory. For tests.
class FakeWholeTensor : public WholeTensor {
 public:
  FakeWholeTensor(std::vector<int64_t> shape, std::vector<float> values)
      : shape_(std::move(shape)), values_(std::move(values)) {}
  const std::vector<int64_t>& shape() const override { return shape_; }
  absl::Status Read(int64_t first, absl::Span<float> out) const override {
    std::copy_n(values_.begin() + first, out.size(), out.begin());
    return absl::OkStatus();
  }

 private:
  const std::vector<int64_t> shape_;
  const std::vector<float> values_;
};

// Merges whole tensors, in tiles of about `tile_elements`.
inline absl::StatusOr<std::vector<float>> TryMethod(
    const MethodSpec& spec, const MethodTask& task,
    const std::vector<std::vector<float>>& tensors, size_t tile_elements) {
  auto made = spec.make(task);
  if (!made.ok()) return made.status();
  TensorMethod& method = **made;
  const auto granule = static_cast<size_t>(method.granule());
  const size_t elements = tensors[0].size();
  const size_t step =
      granule <= 1 ? tile_elements
                   : granule * std::max<size_t>(1, tile_elements / granule);
  std::vector<float> out(elements);
  for (int pass = 0; pass <= method.passes(); ++pass) {
    for (size_t first = 0; first < elements; first += step) {
      InputTile tile = {.first = static_cast<int64_t>(first),
                        .count = std::min(step, elements - first),
                        .inputs = {}};
      for (const auto& tensor : tensors) {
        tile.inputs.push_back(tensor.data() + first);
      }
      if (pass < method.passes()) {
        method.Observe(pass, tile);
      } else {
        method.Combine(tile, out.data() + first);
      }
    }
    if (pass < method.passes()) {
      const absl::Status ended = method.EndPass(pass);
      if (!ended.ok()) return ended;
    }
  }
  return out;
}

}  // namespace cairn::testing

#endif  // CAIRN_MERGE_METHOD_TESTING_RUN_METHOD_H_
