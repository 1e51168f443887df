// Any bytes as cairn-update.safetensors: refused with a reason, or every
// touched tensor can be laid over a base of its shape.
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/log.h"
#include "core/base/status_util.h"
#include "core/update/update.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  cairn::FileMap files;
  files[cairn::kUpdateFile] = cairn::MakeMemorySource(
      std::string(reinterpret_cast<const char*>(data), size));
  auto update = cairn::OpenUpdate(files);
  if (!update.ok()) {
    CAIRN_CHECK(cairn::GetReason(update.status()).has_value());
    return 0;
  }
  CAIRN_CHECK(!(*update)->touched().empty());
  (void)(*update)->CheckFinite();
  for (const cairn::TouchedTensor& tensor : (*update)->touched()) {
    CAIRN_CHECK((*update)->Find(tensor.name) == &tensor);
    auto bytes = cairn::PackedBytes(*tensor.dtype, tensor.shape);
    CAIRN_CHECK(bytes.ok());
    if (*bytes > (1 << 20)) continue;
    std::string base(static_cast<size_t>(*bytes), '\0');
    // What is coded against the base may be found broken only now.
    const auto source = cairn::MakeMemorySource(base);
    const absl::Status read = (*update)->ReadTuned(
        tensor.name, *source, 0, absl::MakeSpan(&base[0], base.size()));
    CAIRN_CHECK(read.ok() || cairn::GetReason(read).has_value());
    if ((*update)->form() == cairn::Update::Form::kDifference) {
      auto change = (*update)->OpenChange(tensor.name);
      CAIRN_CHECK(change.ok());
      std::vector<float> tau(static_cast<size_t>(*bytes) * 8 /
                             cairn::DTypeBits(*tensor.dtype));
      CAIRN_CHECK((*change)->Read(0, absl::MakeSpan(tau)).ok());
    }
    CAIRN_CHECK((*update)->DeltaNorm(tensor.name, *source).ok() == read.ok());
  }
  return 0;
}
