// Any bytes as a coded block: refused, or a block. The first byte chooses the
// elements, the second the block's length; the base is made from both.
#include <array>
#include <cstdint>
#include <string>

#include "core/base/log.h"
#include "core/codec/delta_codec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr std::array<cairn::ElementForm, 8> kForms = {
      {{1, 0}, {1, 4}, {2, 0}, {2, 5}, {2, 8}, {4, 8}, {8, 11}, {8, 0}}};
  if (size < 2) return 0;
  const cairn::ElementForm form = kForms[data[0] % kForms.size()];
  std::string base(size_t{data[1]} * 8, '\0');
  for (size_t i = 0; i < base.size(); ++i) {
    base[i] = static_cast<char>(i * 37 + data[1]);
  }
  const absl::string_view coded(reinterpret_cast<const char*>(data) + 2,
                                size - 2);
  std::string tuned(base.size(), '\0');
  cairn::DeltaDecoder decoder;
  if (decoder.Decode(coded, base, form, absl::MakeSpan(tuned)).ok()) {
    // What was decoded can be coded again.
    std::string again;
    std::string back(base.size(), '\0');
    cairn::DeltaEncoder().Encode(base, tuned, form, again);
    CAIRN_CHECK(decoder.Decode(again, base, form, absl::MakeSpan(back)).ok());
    CAIRN_CHECK(back == tuned);
  }
  std::string planes(base.size(), '\0');
  (void)cairn::PlaneDecoder().Decode(coded, absl::MakeSpan(planes));
  return 0;
}
