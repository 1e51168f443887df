// Any bytes as a delta: refused, or its files can be rebuilt from any base.
#include <cstdint>
#include <string>

#include "core/base/log.h"
#include "core/delta/delta_pack.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto delta = cairn::DeltaPack::Open(cairn::MakeMemorySource(
      std::string(reinterpret_cast<const char*>(data), size)));
  if (!delta.ok()) {
    CAIRN_CHECK(absl::IsDataLoss(delta.status()));
    return 0;
  }
  const cairn::SafetensorsHeader* header =
      delta->FindHeader("model.safetensors");
  if (header == nullptr) return 0;
  cairn::DeltaDecoder decoder;
  std::string coded;
  for (const cairn::TensorEntry& tensor : header->tensors()) {
    const cairn::v1::DeltaTensor* change = delta->Find(tensor.name);
    if (change == nullptr || tensor.end - tensor.begin > (1 << 20)) continue;
    std::string base(static_cast<size_t>(tensor.end - tensor.begin), '\x3c');
    std::string made(base.size(), '\0');
    if (change->piece_bytes_size() != 1) continue;
    (void)delta->DecodePiece(*change, 0, tensor.dtype, base,
                             absl::MakeSpan(made), decoder, coded);
  }
  return 0;
}
