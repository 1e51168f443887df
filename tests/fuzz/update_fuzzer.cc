// Any bytes as cairn-update.safetensors.
#include <cstdint>
#include <string>

#include "tests/fuzz/check_update.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  cairn::FileMap files;
  files[cairn::kUpdateFile] = cairn::MakeMemorySource(
      std::string(reinterpret_cast<const char*>(data), size));
  cairn::testing::CheckUpdate(files);
  return 0;
}
