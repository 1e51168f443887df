#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "merge/method/tensor_method.h"
#include "merge/method/tile_math.h"

namespace cairn {
namespace {

// Shows another method models that are base + clip x (model - base).
class ClippedMethod : public TensorMethod {
 public:
  ClippedMethod(const MethodTask& task, std::unique_ptr<TensorMethod> method)
      : base_(*task.base), method_(std::move(method)) {
    for (const MethodTask::Input& input : task.inputs) {
      clips_.push_back(static_cast<float>(input.clip));
    }
    clipped_.resize(clips_.size());
  }

  int64_t granule() const override { return method_->granule(); }
  int passes() const override { return method_->passes(); }
  PassScope scope(int pass) const override { return method_->scope(pass); }
  int64_t memory_bytes() const override { return method_->memory_bytes(); }
  void Observe(int pass, const InputTile& tile) override {
    method_->Observe(pass, Clip(tile));
  }
  absl::Status EndPass(int pass) override { return method_->EndPass(pass); }
  void Combine(const InputTile& tile, float* out) override {
    method_->Combine(Clip(tile), out);
  }

 private:
  InputTile Clip(InputTile tile) {
    const float* base = tile.inputs[base_];
    for (size_t i = 0; i < clips_.size(); ++i) {
      if (clips_[i] == 1) continue;
      std::vector<float>& values = clipped_[i];
      values.resize(std::max(values.size(), tile.count));
      Subtract(tile.inputs[i], base, values.data(), tile.count);
      Scale(clips_[i], values.data(), values.data(), tile.count);
      Add(values.data(), base, values.data(), tile.count);
      tile.inputs[i] = values.data();
    }
    return tile;
  }

  const size_t base_;
  const std::unique_ptr<TensorMethod> method_;
  std::vector<float> clips_;
  std::vector<std::vector<float>> clipped_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeMethod(const MethodSpec& spec,
                                                         MethodTask task) {
  const bool is_clipped =
      task.base && std::any_of(task.inputs.begin(), task.inputs.end(),
                               [](const auto& input) { return input.clip != 1; });
  auto method = spec.make(task);
  if (!method.ok() || !is_clipped) return method;
  return std::make_unique<ClippedMethod>(task, *std::move(method));
}

}  // namespace cairn
