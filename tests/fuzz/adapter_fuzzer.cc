// Any bytes as a PEFT adapter: two bytes of the configuration's length, the
// configuration, the weights. Refused with a reason, or everything that is
// said of it can be done to a base of the shapes in `Base()`.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/base/log.h"
#include "core/base/status_util.h"
#include "core/update/base_model.h"
#include "core/update/effects.h"
#include "core/update/testing/f32_base.h"
#include "core/update/update.h"

namespace {

cairn::v1::TensorManifest Base() {
  return cairn::testing::F32Base({{"c.weight", {4, 3, 2, 2}},
                                  {"m.experts.gate_up_proj", {2, 3, 4}},
                                  {"m.q.bias", {4}},
                                  {"m.q.weight", {4, 3}},
                                  {"model.embed_tokens.weight", {6, 3}}});
}

void Apply(const cairn::Update& update, const cairn::TouchedTensor& tensor) {
  int64_t elements = 1;
  for (int64_t d : tensor.shape) elements *= d;
  if (elements > (1 << 16)) return;
  const std::string zeros(static_cast<size_t>(elements) * 4, '\0');
  const auto bytes = cairn::MakeMemorySource(zeros);
  auto effect = update.OpenEffect(
      tensor.name, {.dtype = cairn::DType::kF32, .bytes = bytes.get()});
  if (!effect.ok()) {
    CAIRN_CHECK(cairn::GetReason(effect.status()).has_value());
    return;
  }
  CAIRN_CHECK((*effect)->memory_bytes() <=
              update.EffectBytes(tensor.name) + 64);
  std::vector<float> values(static_cast<size_t>(elements));
  CAIRN_CHECK((*effect)->Apply(0, absl::MakeSpan(values)).ok());
  if (update.FactorBytes(tensor.name) > 0) {
    CAIRN_CHECK(update.ReadFactors(tensor.name).ok());
    CAIRN_CHECK(update.DeltaNorm(tensor.name, *bytes).ok());
  }
}

void Use(const absl::StatusOr<std::unique_ptr<cairn::Update>>& update) {
  if (!update.ok()) {
    CAIRN_CHECK(cairn::GetReason(update.status()).has_value() ||
                absl::IsFailedPrecondition(update.status()));
    return;
  }
  CAIRN_CHECK(!(*update)->touched().empty());
  (void)(*update)->CheckFinite();
  for (const cairn::TouchedTensor& tensor : (*update)->touched()) {
    CAIRN_CHECK((*update)->Find(tensor.name) == &tensor);
    Apply(**update, tensor);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const size_t length = std::min<size_t>(
      size - 2, static_cast<size_t>(data[0]) + 256 * size_t{data[1]});
  const std::string rest(reinterpret_cast<const char*>(data) + 2, size - 2);
  const cairn::FileMap files = {
      {cairn::kAdapterConfigFile,
       cairn::MakeMemorySource(rest.substr(0, length))},
      {cairn::kAdapterWeightsFile,
       cairn::MakeMemorySource(rest.substr(length))}};
  static const cairn::v1::TensorManifest tensors = Base();
  const cairn::BaseModel base = {.tensors = &tensors, .config_json = "{}"};
  Use(cairn::OpenUpdate(files, &base));
  Use(cairn::OpenUpdate(files));
  return 0;
}
