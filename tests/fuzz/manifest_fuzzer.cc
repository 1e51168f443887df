// Any bytes as the manifest of a contribution and as that of a checkpoint:
// refused with a reason, or what was read can be written and read again.
#include <cstdint>
#include <string>

#include "core/base/log.h"
#include "core/base/status_util.h"
#include "core/tensor/tensor_manifest.h"
#include "core/update/manifest.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto manifest = cairn::ParseManifest(bytes);
  if (manifest.ok()) {
    CAIRN_CHECK(cairn::ParseManifest(manifest->SerializeAsString()).ok());
    CAIRN_CHECK(
        !cairn::VerifyManifest(*manifest, bytes, std::string(128, '0')).ok());
  } else {
    CAIRN_CHECK(cairn::GetReason(manifest.status()).has_value());
  }
  const auto tensors = cairn::ParseTensorManifest(bytes);
  if (tensors.ok()) {
    const std::string again = cairn::SerializeTensorManifest(*tensors);
    CAIRN_CHECK(cairn::ParseTensorManifest(again).ok());
  } else {
    CAIRN_CHECK(cairn::GetReason(tensors.status()).has_value());
  }
  return 0;
}
