#include "core/update/change_values.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/status/statusor.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/tensor/dtype.h"

namespace cairn {
namespace {

// Values unpacked at a time.
constexpr int64_t kTile = 1 << 14;

DType FloatOf(ValueForm form) {
  return form == ValueForm::kF32   ? DType::kF32
         : form == ValueForm::kF16 ? DType::kF16
                                   : DType::kBF16;
}

// The largest number of a quantised form.
float LargestOf(ValueForm form) {
  return form == ValueForm::kInt8 ? 127.0F : 7.0F;
}

// Unpacks values whose first stands `skip` bits into `bytes`, unscaled.
void Unpack(ValueForm form, absl::Span<const char> bytes, int64_t skip,
            absl::Span<float> out) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  if (form == ValueForm::kInt8) {
    for (size_t i = 0; i < out.size(); ++i) {
      out[i] = static_cast<float>(static_cast<int8_t>(byte(i)));
    }
  } else if (form == ValueForm::kInt4) {
    const auto first = static_cast<size_t>(skip / 4);
    for (size_t i = 0; i < out.size(); ++i) {
      const size_t at = first + i;
      const int nibble = (byte(at / 2) >> (at % 2 * 4)) & 15;
      out[i] = static_cast<float>((nibble ^ 8) - 8);
    }
  } else {
    const auto first = static_cast<size_t>(skip);
    for (size_t i = 0; i < out.size(); ++i) {
      const size_t at = first + i;
      out[i] = ((byte(at / 8) >> (at % 8)) & 1) != 0 ? 1.0F : -1.0F;
    }
  }
}

// Multiplies values [first, ...) by the scales of their groups.
absl::Status ApplyScales(const ByteSource& file, const ValueRange& range,
                         int64_t first, absl::Span<float> out) {
  const int64_t group = range.group == 0 ? range.count : range.group;
  const int64_t from = first / group;
  const int64_t to = (first + static_cast<int64_t>(out.size()) - 1) / group;
  std::vector<float> scales(static_cast<size_t>(to - from + 1));
  CAIRN_RETURN_IF_ERROR(
      file.ReadAt(range.scales_begin + 4 * from,
                  absl::MakeSpan(reinterpret_cast<char*>(scales.data()),
                                 4 * scales.size())));
  int64_t at = first;
  const int64_t end = first + static_cast<int64_t>(out.size());
  for (const float scale : scales) {
    const int64_t until = std::min(end, (at / group + 1) * group);
    for (; at < until; ++at) out[static_cast<size_t>(at - first)] *= scale;
  }
  return absl::OkStatus();
}

}  // namespace

absl::string_view ValueFormName(ValueForm form) {
  static constexpr const char* kNames[kValueForms] = {
      "f32", "f16", "bf16", "int8", "int4", "sign", "replacement"};
  return kNames[static_cast<size_t>(form)];
}

int ValueBits(ValueForm form) {
  static constexpr int kBits[kValueForms] = {32, 16, 16, 8, 4, 1, 0};
  return kBits[static_cast<size_t>(form)];
}

int64_t ValueRange::value_bytes() const {
  // Rounded up without the sum that could overflow.
  const int64_t bits = ValueBits(form);
  return count / 8 * bits + (count % 8 * bits + 7) / 8;
}

int64_t ValueRange::scale_count() const {
  if (!HasScales(form)) return 0;
  if (group == 0) return 1;
  return count / group + (count % group != 0 ? 1 : 0);
}

absl::Status UnpackValues(const ByteSource& file, const ValueRange& range,
                        int64_t first, absl::Span<float> out) {
  CAIRN_CHECK(range.form != ValueForm::kReplacement);
  const int64_t bits = ValueBits(range.form);
  std::vector<char> bytes;
  while (!out.empty()) {
    const auto n = static_cast<size_t>(
        std::min<int64_t>(kTile, static_cast<int64_t>(out.size())));
    const absl::Span<float> tile = out.subspan(0, n);
    const int64_t begin = first * bits / 8;
    const int64_t end = ((first + static_cast<int64_t>(n)) * bits + 7) / 8;
    bytes.resize(static_cast<size_t>(end - begin));
    CAIRN_RETURN_IF_ERROR(
        file.ReadAt(range.values_begin + begin, absl::MakeSpan(bytes)));
    if (HasScales(range.form)) {
      Unpack(range.form, bytes, first * bits - begin * 8, tile);
      CAIRN_RETURN_IF_ERROR(ApplyScales(file, range, first, tile));
    } else {
      ToFloats(FloatOf(range.form), bytes, tile);
    }
    first += static_cast<int64_t>(n);
    out.remove_prefix(n);
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> AreValuesFinite(const ByteSource& file,
                                     const ValueRange& range) {
  // The scales tell for the numbers: none is above 128.
  const bool is_scaled = HasScales(range.form);
  ValueRange scales = {.form = ValueForm::kF32,
                       .count = range.scale_count(),
                       .values_begin = range.scales_begin};
  const ValueRange& looked_at = is_scaled ? scales : range;
  std::vector<float> tile;
  for (int64_t first = 0; first < looked_at.count; first += kTile) {
    tile.resize(static_cast<size_t>(std::min(kTile, looked_at.count - first)));
    CAIRN_RETURN_IF_ERROR(
        UnpackValues(file, looked_at, first, absl::MakeSpan(tile)));
    for (const float value : tile) {
      if (!std::isfinite(is_scaled ? value * 128 : value)) return false;
    }
  }
  return true;
}

ValuePacker::ValuePacker(ValueForm form, int64_t group, float scale)
    : form_(form), group_(HasScales(form) ? group : 0), scale_(scale) {
  CAIRN_CHECK(form != ValueForm::kReplacement && group >= 0);
}

void ValuePacker::Add(absl::Span<const float> values, std::string& packed,
                      std::string& scales) {
  if (!HasScales(form_)) {
    const size_t at = packed.size();
    const size_t bytes =
        values.size() * static_cast<size_t>(ValueBits(form_) / 8);
    packed.resize(at + bytes);
    FromFloats(FloatOf(form_), values, absl::MakeSpan(&packed[at], bytes));
    return;
  }
  if (group_ == 0) {
    PackScaled(values, scale_, packed);
    return;
  }
  const auto group = static_cast<size_t>(group_);
  while (!values.empty()) {
    const size_t n = std::min(values.size(), group - pending_.size());
    if (n == group) {
      PackGroup(values.subspan(0, n), packed, scales);
    } else {
      pending_.insert(pending_.end(), values.begin(),
                      values.begin() + static_cast<ptrdiff_t>(n));
      if (pending_.size() == group) {
        PackGroup(pending_, packed, scales);
        pending_.clear();
      }
    }
    values.remove_prefix(n);
  }
}

void ValuePacker::Finish(std::string& packed, std::string& scales) {
  if (!pending_.empty()) PackGroup(pending_, packed, scales);
  pending_.clear();
  if (bit_count_ > 0) packed += static_cast<char>(bits_);
  bits_ = 0;
  bit_count_ = 0;
  if (HasScales(form_) && group_ == 0 && !is_scale_written_) {
    scales.append(reinterpret_cast<const char*>(&scale_), 4);
    is_scale_written_ = true;
  }
}

void ValuePacker::PackGroup(absl::Span<const float> values, std::string& packed,
                            std::string& scales) {
  float scale = 0;
  if (form_ == ValueForm::kSign) {
    double sum = 0;
    for (const float value : values) sum += std::fabs(value);
    scale = static_cast<float>(sum / static_cast<double>(values.size()));
  } else {
    for (const float value : values) scale = std::max(scale, std::fabs(value));
    scale /= LargestOf(form_);
  }
  scales.append(reinterpret_cast<const char*>(&scale), 4);
  PackScaled(values, scale, packed);
}

void ValuePacker::PackScaled(absl::Span<const float> values, float scale,
                             std::string& packed) {
  if (form_ == ValueForm::kSign) {
    for (const float value : values) PutBits(value > 0 ? 1 : 0, packed);
    return;
  }
  const float largest = LargestOf(form_);
  for (const float value : values) {
    // 0 where all are: dividing would make NaNs of them.
    const float ratio = scale > 0 ? value / scale : 0.0F;
    const auto number =
        static_cast<int>(std::nearbyint(std::clamp(ratio, -largest, largest)));
    if (form_ == ValueForm::kInt8) {
      packed += static_cast<char>(number);
    } else {
      PutBits(static_cast<unsigned>(number) & 15, packed);
    }
  }
}

void ValuePacker::PutBits(unsigned value, std::string& packed) {
  bits_ |= value << bit_count_;
  bit_count_ += ValueBits(form_);
  if (bit_count_ < 8) return;
  packed += static_cast<char>(bits_);
  bits_ = 0;
  bit_count_ = 0;
}

}  // namespace cairn
