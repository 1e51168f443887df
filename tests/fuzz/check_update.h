#ifndef CAIRN_TESTS_FUZZ_CHECK_UPDATE_H_
#define CAIRN_TESTS_FUZZ_CHECK_UPDATE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/log.h"
#include "core/base/status_util.h"
#include "core/update/update.h"

namespace cairn::testing {

// Checks that the files of an update in Cairn's own encodings are refused with
// a reason, or that every touched tensor can be laid over a base of its shape.
inline void CheckUpdate(const FileMap& files) {
  auto update = OpenUpdate(files);
  if (!update.ok()) {
    CAIRN_CHECK(GetReason(update.status()).has_value());
    return;
  }
  CAIRN_CHECK(!(*update)->touched().empty());
  (void)(*update)->CheckFinite();
  for (const TouchedTensor& tensor : (*update)->touched()) {
    CAIRN_CHECK((*update)->Find(tensor.name) == &tensor);
    (void)(*update)->Describe(tensor.name);
    auto bytes = PackedBytes(*tensor.dtype, tensor.shape);
    CAIRN_CHECK(bytes.ok());
    if (*bytes > (1 << 20)) continue;
    std::string base(static_cast<size_t>(*bytes), '\0');
    // What is coded against the base may be found broken only now.
    const auto source = MakeMemorySource(base);
    const absl::Status read = (*update)->ReadTuned(
        tensor.name, *source, 0, absl::MakeSpan(&base[0], base.size()));
    CAIRN_CHECK(read.ok() || GetReason(read).has_value());
    if ((*update)->form() == Update::Form::kDifference) {
      auto change = (*update)->OpenChange(tensor.name);
      CAIRN_CHECK(change.ok());
      std::vector<float> tau(
          static_cast<size_t>(*bytes * 8 / DTypeBits(*tensor.dtype)));
      CAIRN_CHECK((*change)->Read(0, absl::MakeSpan(tau)).ok());
    }
    CAIRN_CHECK((*update)->DeltaNorm(tensor.name, *source).ok() == read.ok());
  }
}

}  // namespace cairn::testing

#endif  // CAIRN_TESTS_FUZZ_CHECK_UPDATE_H_
