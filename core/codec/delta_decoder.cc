#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/codec/delta_codec.h"
#include "core/codec/delta_form.h"
#include "core/codec/element_order.h"

namespace cairn {
namespace {

// A group's extra bits or its tokens' words may be read this far past the end
// before the decoder looks.
constexpr size_t kSlack = 1024;
static_assert(kSlack >= kDeltaGroup * 8 + 8 &&
              kSlack >= RansDecoder::kOverrun + 8 &&
              kDeltaGroup == RansDecoder::kTokensMax);

absl::Status Broken(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("coded change: ", what));
}

// A number in Elias' gamma code of at most 13 bits; 0 for a longer one.
uint32_t GetGamma(BitReader& bits) {
  unsigned zeros = 0;
  while (bits.Get(1) == 0) {
    if (++zeros > kRansBits) return 0;
  }
  return static_cast<uint32_t>(uint64_t{1} << zeros | bits.Get(zeros));
}

}  // namespace

absl::Status DeltaDecoder::ReadTables(BitReader& bits, size_t size,
                                      size_t token_limit) {
  const size_t classes = bits.Get(kDeltaClassBits) + 1;
  frequencies_.assign(classes, {});
  size_t context = 0;
  for (size_t c = 0; c < classes; ++c) {
    const size_t last = bits.Get(8);
    const size_t used = bits.Get(8) + 1;
    if (last < context || (last == 255) != (c + 1 == classes) ||
        used > token_limit) {
      return Broken(absl::StrCat("table ", c, " of ", classes,
                                 " does not fit its neighbours or the width"));
    }
    for (; context <= last; ++context) {
      class_of_[context] = static_cast<uint8_t>(c);
    }
    uint32_t sum = 0;
    for (size_t t = 0; t < used; ++t) {
      const uint32_t coded = GetGamma(bits);
      if (coded == 0 || bits.position() > 8 * size) {
        return Broken(absl::StrCat("ends in table ", c));
      }
      frequencies_[c][t] = static_cast<uint16_t>(coded - 1);
      sum += coded - 1;
      if (sum > kRansTotal) break;
    }
    if (sum != kRansTotal) {
      return Broken(absl::StrCat("the frequencies of table ", c, " have sum ",
                                 sum, "; ", kRansTotal, " is right"));
    }
  }
  return absl::OkStatus();
}

template <typename T>
absl::Status DeltaDecoder::Apply(const char* base, size_t count,
                                 ElementForm form, const char* map,
                                 absl::Span<const char> extra, char* tuned) {
  BitReader bits(extra.data());
  uint8_t tokens[kDeltaGroup];
  uint8_t classes[kDeltaGroup];
  T places[kDeltaGroup];
  for (size_t begin = 0; begin < count; begin += kDeltaGroup) {
    const size_t n = std::min(kDeltaGroup, count - begin);
    const size_t group = begin / kDeltaGroup;
    const char* from = base + begin * sizeof(T);
    char* to = tuned + begin * sizeof(T);
    if (map != nullptr && ((map[group / 8] >> (group % 8)) & 1) == 0) {
      std::memcpy(to, from, n * sizeof(T));
      continue;
    }
    std::memcpy(places, from, n * sizeof(T));
    for (size_t i = 0; i < n; ++i) {
      classes[i] = class_of_[ContextOf(places[i], form.exponent_bits)];
    }
    rans_.Decode(classes, n, tokens);
    T distances[kDeltaGroup];
    for (size_t i = 0; i < n; ++i) {
      uint64_t folded = tokens[i];
      if (folded >= kExactTokens) {
        const TokenRange& range = kTokenRanges[folded];
        folded = range.first | GetExtra<T>(bits, range.extra_bits);
      }
      distances[i] = Unfold(static_cast<T>(folded));
    }
    if (!rans_.IsWithin() || bits.position() > 8 * extra.size()) {
      return Broken(
          absl::StrCat("ends before element ", begin + n, " of ", count));
    }
    if (form.exponent_bits > 0) {
      for (size_t i = 0; i < n; ++i) {
        places[i] =
            PatternAt(static_cast<T>(PlaceOf(places[i]) + distances[i]));
      }
    } else {
      for (size_t i = 0; i < n; ++i) {
        places[i] = static_cast<T>(places[i] + distances[i]);
      }
    }
    std::memcpy(to, places, n * sizeof(T));
  }
  if (!rans_.IsDone() || (bits.position() + 7) / 8 != extra.size()) {
    return Broken("what it holds does not end with the block");
  }
  return absl::OkStatus();
}

absl::Status DeltaDecoder::DecodeDifferences(absl::string_view coded,
                                             absl::Span<const char> base,
                                             ElementForm form,
                                             absl::Span<char> tuned) {
  padded_.resize(std::max(padded_.size(), coded.size() + kSlack));
  std::memcpy(padded_.data(), coded.data(), coded.size());
  std::memset(padded_.data() + coded.size(), 0, kSlack);
  BitReader header(padded_.data());
  const bool has_map = header.Get(1) == 1;
  CAIRN_RETURN_IF_ERROR(
      ReadTables(header, coded.size(), DeltaTokenLimit(form)));
  const size_t extra_bytes = header.Get(32);
  const size_t count = base.size() / static_cast<size_t>(form.width);
  const size_t groups = (count + kDeltaGroup - 1) / kDeltaGroup;
  const size_t map_bytes = has_map ? (groups + 7) / 8 : 0;
  const size_t at = (header.position() + 7) / 8;
  if (at + map_bytes + extra_bytes + kRansHeadBytes > coded.size()) {
    return Broken(absl::StrCat("has ", coded.size(), " bytes; its parts take ",
                               at + map_bytes + extra_bytes + kRansHeadBytes,
                               " or more"));
  }
  const char* map = padded_.data() + at;
  const absl::Span<const char> extra(map + map_bytes, extra_bytes);
  rans_.SetTables(frequencies_);
  if (!rans_.Start({extra.data() + extra_bytes,
                    coded.size() - at - map_bytes - extra_bytes})) {
    return Broken("its states are none");
  }
  if (!has_map) map = nullptr;
  switch (form.width) {
    case 1:
      return Apply<uint8_t>(base.data(), count, form, map, extra, tuned.data());
    case 2:
      return Apply<uint16_t>(base.data(), count, form, map, extra,
                             tuned.data());
    case 4:
      return Apply<uint32_t>(base.data(), count, form, map, extra,
                             tuned.data());
    default:
      return Apply<uint64_t>(base.data(), count, form, map, extra,
                             tuned.data());
  }
}

absl::Status DeltaDecoder::Decode(absl::string_view coded,
                                  absl::Span<const char> base, ElementForm form,
                                  absl::Span<char> tuned) {
  CAIRN_CHECK(IsPlaneWidth(form.width) && base.size() == tuned.size() &&
              base.size() <= kDeltaBlockBytesMax &&
              base.size() % static_cast<size_t>(form.width) == 0);
  if (coded.empty()) return Broken("is empty");
  const auto method = static_cast<DeltaMethod>(coded[0]);
  coded.remove_prefix(1);
  switch (method) {
    case DeltaMethod::kUnchanged:
      if (!coded.empty()) return Broken("goes on after \"unchanged\"");
      if (!base.empty()) std::memcpy(tuned.data(), base.data(), base.size());
      return absl::OkStatus();
    case DeltaMethod::kDifferences:
      return DecodeDifferences(coded, base, form, tuned);
    case DeltaMethod::kPlanes:
      return planes_.Decode(coded, tuned);
    case DeltaMethod::kXorPlanes:
      CAIRN_RETURN_IF_ERROR(planes_.Decode(coded, tuned));
      for (size_t i = 0; i < base.size(); ++i) {
        tuned[i] = static_cast<char>(tuned[i] ^ base[i]);
      }
      return absl::OkStatus();
  }
  return Broken(absl::StrCat("method ", static_cast<int>(method),
                             " is none that there is"));
}

}  // namespace cairn
