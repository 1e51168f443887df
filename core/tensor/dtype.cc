#include "core/tensor/dtype.h"

#include <array>
#include <bit>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "core/base/vector_clones.h"
#include "core/tensor/float_bits.h"

static_assert(std::endian::native == std::endian::little,
              "tensors are little-endian and read in place");

namespace cairn {
namespace {

struct DTypeFacts {
  const char* name;
  int bits;
};

// In the order of DType.
constexpr std::array<DTypeFacts, 22> kFacts = {{
    {"BOOL", 8},    {"F4", 4},          {"F6_E2M3", 6},     {"F6_E3M2", 6},
    {"U8", 8},      {"I8", 8},          {"F8_E5M2", 8},     {"F8_E4M3", 8},
    {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
    {"U16", 16},    {"F16", 16},        {"BF16", 16},       {"I32", 32},
    {"U32", 32},    {"F32", 32},        {"C64", 64},        {"F64", 64},
    {"I64", 64},    {"U64", 64},
}};

const DTypeFacts& Facts(DType dtype) {
  return kFacts[static_cast<size_t>(dtype)];
}

template <typename T>
T Load(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof(value));
  return value;
}

}  // namespace

namespace internal {

CAIRN_VECTOR_CLONES void BfloatsToFloats(const char* in, float* out,
                                         size_t count) {
  for (size_t i = 0; i < count; ++i) {
    out[i] = BfloatToFloat(Load<uint16_t>(in + 2 * i));
  }
}

CAIRN_VECTOR_CLONES void HalvesToFloats(const char* in, float* out,
                                        size_t count) {
  for (size_t i = 0; i < count; ++i) {
    out[i] = HalfToFloat(Load<uint16_t>(in + 2 * i));
  }
}

CAIRN_VECTOR_CLONES void FloatsToBfloats(const float* in, char* out,
                                         size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const uint16_t value = FloatToBfloat(in[i]);
    std::memcpy(out + 2 * i, &value, 2);
  }
}

CAIRN_VECTOR_CLONES void FloatsToHalves(const float* in, char* out,
                                        size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const uint16_t value = FloatToHalf(in[i]);
    std::memcpy(out + 2 * i, &value, 2);
  }
}

// Whether an element has all bits of `mask` (its exponent) set.
CAIRN_VECTOR_CLONES bool HasSpecial16(const char* bytes, size_t count,
                                      uint16_t mask) {
  uint16_t found = 0;
  for (size_t i = 0; i < count; ++i) {
    const uint16_t bits = Load<uint16_t>(bytes + 2 * i) & mask;
    found |= bits == mask ? 1 : 0;
  }
  return found != 0;
}

}  // namespace internal

namespace {

// True when no element has all bits of `mask` (its exponent) set.
template <typename T>
bool NoneSpecial(absl::Span<const char> bytes, T mask) {
  if constexpr (sizeof(T) == 2) {
    return !internal::HasSpecial16(bytes.data(), bytes.size() / 2, mask);
  }
  bool found = false;
  for (size_t i = 0; i + sizeof(T) <= bytes.size(); i += sizeof(T)) {
    found |= (Load<T>(bytes.data() + i) & mask) == mask;
  }
  return !found;
}

bool NoneEqual(absl::Span<const char> bytes, uint8_t value) {
  return std::memchr(bytes.data(), value, bytes.size()) == nullptr;
}

}  // namespace

absl::string_view DTypeName(DType dtype) { return Facts(dtype).name; }

std::optional<DType> ParseDType(absl::string_view name) {
  for (size_t i = 0; i < kFacts.size(); ++i) {
    if (name == kFacts[i].name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

int DTypeBits(DType dtype) { return Facts(dtype).bits; }

bool IsNumeric(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

absl::StatusOr<int64_t> PackedBytes(DType dtype,
                                    absl::Span<const int64_t> shape) {
  int64_t bits = DTypeBits(dtype);
  for (int64_t dimension : shape) {
    if (dimension < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("dimension ", dimension, " is negative"));
    }
    if (__builtin_mul_overflow(bits, dimension, &bits)) {
      return absl::InvalidArgumentError(
          "the product of the dimensions overflows 64 bits");
    }
  }
  if (bits % 8 != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        bits, " bits of ", Facts(dtype).name, " are not whole bytes"));
  }
  return bits / 8;
}

void ToFloats(DType dtype, absl::Span<const char> bytes,
              absl::Span<float> out) {
  CAIRN_CHECK(IsNumeric(dtype) &&
              bytes.size() * 8 ==
                  out.size() * static_cast<size_t>(DTypeBits(dtype)));
  if (dtype == DType::kF32) {
    if (!out.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
  } else if (dtype == DType::kBF16) {
    internal::BfloatsToFloats(bytes.data(), out.data(), out.size());
  } else {
    internal::HalvesToFloats(bytes.data(), out.data(), out.size());
  }
}

void FromFloats(DType dtype, absl::Span<const float> in,
                absl::Span<char> bytes) {
  CAIRN_CHECK(IsNumeric(dtype) &&
              bytes.size() * 8 ==
                  in.size() * static_cast<size_t>(DTypeBits(dtype)));
  if (dtype == DType::kF32) {
    if (!in.empty()) std::memcpy(bytes.data(), in.data(), bytes.size());
  } else if (dtype == DType::kBF16) {
    internal::FloatsToBfloats(in.data(), bytes.data(), in.size());
  } else {
    internal::FloatsToHalves(in.data(), bytes.data(), in.size());
  }
}

void RoundTo(DType dtype, absl::Span<float> values) {
  if (dtype == DType::kF32) return;
  char bytes[2 * 1024];
  for (size_t i = 0; i < values.size(); i += sizeof(bytes) / 2) {
    const absl::Span<float> part = values.subspan(i, sizeof(bytes) / 2);
    const absl::Span<char> packed(bytes, part.size() * 2);
    FromFloats(dtype, part, packed);
    ToFloats(dtype, packed, part);
  }
}

bool AllFinite(DType dtype, absl::Span<const char> bytes) {
  if (bytes.empty()) return true;
  switch (dtype) {
    case DType::kF32:
    case DType::kC64:
      return NoneSpecial<uint32_t>(bytes, 0x7f800000U);
    case DType::kF64:
      return NoneSpecial<uint64_t>(bytes, 0x7ff0000000000000U);
    case DType::kF16:
      return NoneSpecial<uint16_t>(bytes, 0x7c00U);
    case DType::kBF16:
      return NoneSpecial<uint16_t>(bytes, 0x7f80U);
    case DType::kF8E5M2:
      return NoneSpecial<uint8_t>(bytes, 0x7cU);
    case DType::kF8E4M3:
      return NoneSpecial<uint8_t>(bytes, 0x7fU);
    case DType::kF8E8M0:
      return NoneEqual(bytes, 0xff);
    case DType::kF8E4M3FNUZ:
    case DType::kF8E5M2FNUZ:
      return NoneEqual(bytes, 0x80);
    default:
      return true;
  }
}

}  // namespace cairn
