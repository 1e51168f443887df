#ifndef CAIRN_CORE_UPDATE_CHANGE_VALUES_H_
#define CAIRN_CORE_UPDATE_CHANGE_VALUES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/tensor/byte_source.h"

namespace cairn {

// How the values of a change are kept. The numbers stand in files.
enum class ValueForm : uint8_t {
  kF32 = 0,
  kF16 = 1,
  kBF16 = 2,
  kInt8 = 3,  // times a scale
  kInt4 = 4,  // in two's complement, the lower four bits of a byte first
  kSign = 5,  // one bit, the lowest of a byte first; 1: + scale, 0: - scale
  // The tuned values themselves, in the base's dtype, instead of differences.
  kReplacement = 6,
};
inline constexpr int kValueForms = 7;

// "f32", "int8", ...
absl::string_view ValueFormName(ValueForm form);
// Of a value; 0 for kReplacement, whose dtype says it.
int ValueBits(ValueForm form);
inline bool HasScales(ValueForm form) {
  return form == ValueForm::kInt8 || form == ValueForm::kInt4 ||
         form == ValueForm::kSign;
}

// `count` packed values in a file and the F32 scales of each `group` of them,
// in their order; group 0: one scale for all.
struct ValueRange {
  ValueForm form = ValueForm::kF32;
  int64_t count = 0;
  int64_t group = 0;
  int64_t values_begin = 0;  // in the file
  int64_t scales_begin = 0;

  // The values and scales that so many values take.
  int64_t value_bytes() const;
  int64_t scale_count() const;
};

// Values [first, first + out.size()) of the range, unpacked.
absl::Status UnpackValues(const ByteSource& file, const ValueRange& range,
                        int64_t first, absl::Span<float> out);
// Whether all values and scales are finite, and products of both.
absl::StatusOr<bool> AreValuesFinite(const ByteSource& file,
                                     const ValueRange& range);

// Packs values one after the other. With a group, INT8 and INT4 take the
// largest of its magnitudes as the largest number, rounding to nearest, ties
// to even; signs take the mean of its magnitudes, which is nearest to it by
// squares. Without one, `scale` is given.
class ValuePacker {
 public:
  ValuePacker(ValueForm form, int64_t group, float scale = 0);

  // Appends what is packed of `values`, whole groups only, to `packed` and
  // their scales to `scales`.
  void Add(absl::Span<const float> values, std::string& packed,
           std::string& scales);
  // The last group, which may be shorter, and a last byte filled with zeros.
  void Finish(std::string& packed, std::string& scales);

 private:
  void PackGroup(absl::Span<const float> values, std::string& packed,
                 std::string& scales);
  void PackScaled(absl::Span<const float> values, float scale,
                  std::string& packed);
  void PutBits(unsigned value, std::string& packed);

  const ValueForm form_;
  const int64_t group_;
  const float scale_;
  bool is_scale_written_ = false;
  std::vector<float> pending_;  // of the group under way
  unsigned bits_ = 0;           // of the byte under way
  int bit_count_ = 0;
};

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_CHANGE_VALUES_H_
