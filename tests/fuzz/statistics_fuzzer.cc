// Any bytes as cairn-statistics.safetensors: refused with a reason, or what
// fits a small base can be read.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/base/log.h"
#include "core/base/status_util.h"
#include "core/update/testing/f32_base.h"
#include "core/update/update_statistics.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto statistics =
      cairn::UpdateStatistics::Open(cairn::SharedSource(cairn::MakeMemorySource(
          std::string(reinterpret_cast<const char*>(data), size))));
  if (!statistics.ok()) {
    CAIRN_CHECK(cairn::GetReason(statistics.status()).has_value());
    return 0;
  }
  static const cairn::v1::TensorManifest base =
      cairn::testing::F32Base({{"b", {2}}, {"k", {2, 3}}, {"q", {2, 3}}});
  (void)(*statistics)->CheckValues();
  if (!(*statistics)->CheckAgainstBase(base, "").ok()) return 0;
  for (const cairn::v1::Tensor& tensor : base.tensors()) {
    const int64_t columns = tensor.shape_size() == 2 ? tensor.shape(1) : 1;
    std::vector<float> values(static_cast<size_t>(tensor.shape(0) * columns));
    if ((*statistics)->HasFisher(tensor.name())) {
      CAIRN_CHECK(
          (*statistics)
              ->ReadFisher(tensor.name(), 0, columns, absl::MakeSpan(values))
              .ok());
    }
    if (const auto side = (*statistics)->GramSize(tensor.name())) {
      CAIRN_CHECK(static_cast<int64_t>(
                      (*statistics)->ReadGram(tensor.name()).value().size()) ==
                  *side * (*side + 1) / 2);
    }
  }
  return 0;
}
