// Any bytes as cairn-mask.safetensors: refused with a reason, or positions
// that ascend within each tensor.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/log.h"
#include "core/base/status_util.h"
#include "core/update/position_mask.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto mask =
      cairn::PositionMask::Open(cairn::SharedSource(cairn::MakeMemorySource(
          std::string(reinterpret_cast<const char*>(data), size))));
  if (!mask.ok()) {
    CAIRN_CHECK(cairn::GetReason(mask.status()).has_value());
    return 0;
  }
  CAIRN_CHECK(!mask->tensors().empty());
  for (const cairn::PositionMask::Tensor& tensor : mask->tensors()) {
    CAIRN_CHECK(mask->Find(tensor.spec.name) == &tensor);
    int64_t previous = -1, count = 0;
    const int64_t elements = tensor.spec.elements();
    const absl::Status read = tensor.positions->ForRange(
        0, elements, [&](int64_t first, absl::Span<const int64_t> positions) {
          CAIRN_CHECK(first == count);
          count += static_cast<int64_t>(positions.size());
          for (const int64_t position : positions) {
            CAIRN_CHECK(position > previous && position < elements);
            previous = position;
          }
          return absl::OkStatus();
        });
    CAIRN_CHECK(read.ok() && count == tensor.positions->count());
  }
  return 0;
}
