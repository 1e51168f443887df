// Any bytes as model.safetensors.index.json beside two sound shards: refused
// with a reason, or a checkpoint of their tensors.
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/log.h"
#include "core/base/status_util.h"
#include "core/tensor/checkpoint.h"

namespace {

std::string Shard(const std::string& tensor) {
  const std::vector<cairn::TensorSpec> specs = {
      {.name = tensor, .dtype = cairn::DType::kF32, .shape = {2}}};
  return cairn::LayOutSafetensors(specs, {})->header + std::string(8, '\0');
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  auto checkpoint = cairn::Checkpoint::Open(
      {{"model.safetensors.index.json", cairn::MakeMemorySource(text)},
       {"1.safetensors", cairn::MakeMemorySource(Shard("a"))},
       {"2.safetensors", cairn::MakeMemorySource(Shard("b"))}});
  if (!checkpoint.ok()) {
    CAIRN_CHECK(cairn::GetReason(checkpoint.status()).has_value() ||
                absl::IsNotFound(checkpoint.status()));
    return 0;
  }
  for (const cairn::CheckpointTensor& tensor : checkpoint->tensors()) {
    std::vector<float> values(2);
    CAIRN_CHECK(tensor.name == "a" || tensor.name == "b");
    CAIRN_CHECK(
        checkpoint->ReadFloats(tensor.name, 0, absl::MakeSpan(values)).ok());
  }
  return 0;
}
