#include <algorithm>
#include <utility>

#include "merge/method/method_makers.h"
#include "merge/method/tile_math.h"

namespace cairn {
namespace {

class Diloco : public TensorMethod {
 public:
  Diloco(const MethodTask& task, std::vector<size_t> members,
         std::optional<size_t> buffer)
      : base_(*task.base),
        members_(std::move(members)),
        buffer_(buffer),
        rate_(static_cast<float>(task.Shared("outer_lr"))),
        momentum_(static_cast<float>(task.Shared("mu"))),
        makes_buffer_(task.Shared("as_momentum") != 0) {}

  void Combine(const InputTile& tile, float* out) override {
    const float* base = tile.inputs[base_];
    const auto count = static_cast<float>(members_.size());
    for (size_t i = 0; i < tile.count; ++i) {
      float sum = 0;
      for (size_t member : members_) sum += base[i] - tile.inputs[member][i];
      const float gradient = sum / count;
      const float before = buffer_ ? tile.inputs[*buffer_][i] : 0.0f;
      const float buffer = momentum_ * before + gradient;
      out[i] = makes_buffer_
                   ? buffer
                   : base[i] - rate_ * (gradient + momentum_ * buffer);
    }
  }

 private:
  const size_t base_;
  const std::vector<size_t> members_;
  const std::optional<size_t> buffer_;
  const float rate_;
  const float momentum_;
  const bool makes_buffer_;
};

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeDiloco(MethodTask task) {
  std::vector<size_t> members;
  std::optional<size_t> buffer;
  for (size_t i : task.Others()) {
    if (task.inputs[i].parameters.at("momentum") == 0) {
      members.push_back(i);
    } else if (buffer) {
      return absl::InvalidArgumentError(
          "parameter momentum: only one of the models can be the buffer");
    } else {
      buffer = i;
    }
  }
  if (members.empty()) {
    return absl::InvalidArgumentError(
        "parameter momentum: besides the buffer there must be a model");
  }
  return std::make_unique<Diloco>(task, std::move(members), buffer);
}

}  // namespace

MethodSpec DilocoMethod() {
  return {.name = "diloco",
          .source =
              "arXiv 2311.08105: g = base - mean of models; m = mu x m + g; "
              "base - outer_lr x (g + mu x m). The model marked `momentum` is "
              "the m of the last step, 0 without; as_momentum gives the new m",
          .base = MethodSpec::Base::kRequired,
          .others_min = 1,
          .parameters = {SharedNumber("outer_lr", 0.7, -kLargest, kLargest),
                         SharedNumber("mu", 0.9, 0, 1),
                         SharedBool("as_momentum", false),
                         {.name = "momentum",
                          .scope = MethodParameter::Scope::kOther,
                          .kind = MethodParameter::Kind::kBool,
                          .fallback = 0.0,
                          .least = 0,
                          .most = 1}},
          .make = MakeDiloco};
}

}  // namespace cairn
