// Any bytes as a safetensors file: refused with a reason, or a header whose
// tensors lie within the file and can be laid out again.
#include <cstdint>
#include <string>

#include "core/base/log.h"
#include "core/base/status_util.h"
#include "core/tensor/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto file = cairn::MakeMemorySource(
      std::string(reinterpret_cast<const char*>(data), size));
  auto header = cairn::SafetensorsHeader::Read(*file, "fuzz.safetensors");
  if (!header.ok()) {
    CAIRN_CHECK(cairn::GetReason(header.status()).has_value());
    return 0;
  }
  int64_t end = header->header_bytes();
  for (const cairn::TensorEntry& tensor : header->tensors()) {
    CAIRN_CHECK(tensor.begin == end);
    CAIRN_CHECK(tensor.end - tensor.begin == tensor.size_bytes());
    end = tensor.end;
  }
  CAIRN_CHECK(end == static_cast<int64_t>(size));
  auto layout = cairn::LayOutSafetensors(
      {header->tensors().begin(), header->tensors().end()}, header->metadata());
  CAIRN_CHECK(layout.ok());
  CAIRN_CHECK(cairn::SafetensorsHeader::Parse(layout->header,
                                              layout->file_bytes, "again")
                  .ok());
  return 0;
}
