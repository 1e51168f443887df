#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "core/base/log.h"
#include "core/codec/delta_codec.h"
#include "core/codec/delta_form.h"
#include "core/codec/element_order.h"

namespace cairn {
namespace {

// Groups without a change are mapped out where they are at least one in so
// many; elsewhere the map would cost more time than it spares.
constexpr size_t kMapWorthwhile = 8;
// Differences longer than this part of the block are held against byte planes.
constexpr double kDifferencesGood = 0.6;

// Bits of a token as a class's table, roughly.
double TableBits(const uint32_t* counts, size_t limit, double total) {
  double bits = 16;
  for (size_t t = 0; t < limit; ++t) {
    bits += 1 + 2 * std::log2(1 + kRansTotal * counts[t] / total);
  }
  return bits;
}

// Bits that the tokens of a class and its table take.
double ClassBits(const uint32_t* counts, size_t limit) {
  double total = 0, spent = 0;
  size_t used = 0;
  for (size_t t = 0; t < limit; ++t) {
    if (counts[t] == 0) continue;
    const double count = counts[t];
    total += count;
    spent -= count * std::log2(count);
    used = t + 1;
  }
  if (total == 0) return 0;
  return spent + total * std::log2(total) + TableBits(counts, used, total);
}

}  // namespace

size_t DeltaCodedBytesMax(size_t block_bytes) {
  return 1 + PlaneCodedBytesMax(block_bytes);
}

template <typename T>
void DeltaEncoder::Compare(const char* base, const char* tuned, size_t count,
                           ElementForm form) {
  const size_t groups = (count + kDeltaGroup - 1) / kDeltaGroup;
  map_.assign((groups + 7) / 8, '\0');
  size_t changed = 0;
  for (size_t g = 0; g < groups; ++g) {
    const size_t begin = g * kDeltaGroup * sizeof(T);
    const size_t bytes =
        std::min(kDeltaGroup * sizeof(T), count * sizeof(T) - begin);
    if (std::memcmp(base + begin, tuned + begin, bytes) == 0) continue;
    map_[g / 8] = static_cast<char>(map_[g / 8] | 1 << (g % 8));
    ++changed;
  }
  if ((groups - changed) * kMapWorthwhile < groups) {
    map_.clear();
    changed = groups;
  }
  tokens_.resize(changed * kDeltaGroup);
  contexts_.resize(changed * kDeltaGroup);
  counts_.assign(size_t{256} * 256, 0);
  extra_.Start(changed * kDeltaGroup * kBits<T>);
  // Copies, because what is written may be any object's bytes to a compiler.
  BitWriter extra = std::move(extra_);
  uint8_t* const tokens = tokens_.data();
  uint8_t* const contexts = contexts_.data();
  uint32_t* const counts = counts_.data();
  const int exponent_bits = form.exponent_bits;
  size_t n = 0;
  for (size_t g = 0; g < groups; ++g) {
    if (!map_.empty() && ((map_[g / 8] >> (g % 8)) & 1) == 0) continue;
    const size_t end = std::min(count, (g + 1) * kDeltaGroup);
    for (size_t i = g * kDeltaGroup; i < end; ++i, ++n) {
      T before, after;
      std::memcpy(&before, base + i * sizeof(T), sizeof(T));
      std::memcpy(&after, tuned + i * sizeof(T), sizeof(T));
      const T distance = exponent_bits > 0
                             ? static_cast<T>(PlaceOf(after) - PlaceOf(before))
                             : static_cast<T>(after - before);
      const uint64_t folded = Fold(distance);
      const Token token = TokenOf(folded);
      const uint8_t context = ContextOf(before, exponent_bits);
      tokens[n] = token.token;
      contexts[n] = context;
      ++counts[size_t{256} * context + token.token];
      PutExtra<T>(extra, folded, token.extra_bits);
    }
  }
  extra_ = std::move(extra);
  tokens_.resize(n);
  contexts_.resize(n);
}

void DeltaEncoder::Classify(size_t token_limit) {
  class_ends_.clear();
  frequencies_.clear();
  std::array<uint32_t, 256> merged = {};
  std::array<uint32_t, 256> joint = {};
  double merged_bits = 0;
  const auto close = [&](size_t last) {
    class_ends_.push_back(static_cast<uint8_t>(last));
    frequencies_.push_back(ScaleCounts(merged));
  };
  size_t last = 0;
  for (size_t context = 0; context < 256; ++context) {
    const uint32_t* counts = counts_.data() + 256 * context;
    const double bits = ClassBits(counts, token_limit);
    if (bits == 0) continue;
    for (size_t t = 0; t < token_limit; ++t) joint[t] = merged[t] + counts[t];
    const double joint_bits = ClassBits(joint.data(), token_limit);
    if (merged_bits == 0 || joint_bits <= merged_bits + bits ||
        class_ends_.size() + 1 == kDeltaClassesMax) {
      merged = joint;
      merged_bits = joint_bits;
    } else {
      close(last);
      std::fill(merged.begin(), merged.end(), 0);
      std::copy_n(counts, token_limit, merged.begin());
      merged_bits = bits;
    }
    last = context;
  }
  close(255);
  size_t c = 0;
  for (size_t context = 0; context < 256; ++context) {
    if (context > class_ends_[c]) ++c;
    class_of_[context] = static_cast<uint8_t>(c);
  }
}

void DeltaEncoder::AppendDifferences(std::string& out) {
  header_.Start(kDeltaHeaderBitsMax);
  header_.Put(map_.empty() ? 0 : 1, 1);
  header_.Put(frequencies_.size() - 1, kDeltaClassBits);
  for (size_t c = 0; c < frequencies_.size(); ++c) {
    size_t used = 256;
    while (frequencies_[c][used - 1] == 0) --used;
    header_.Put(class_ends_[c], 8);
    header_.Put(used - 1, 8);
    for (size_t t = 0; t < used; ++t) {
      header_.PutGamma(uint64_t{frequencies_[c][t]} + 1);
    }
  }
  const absl::Span<const char> extra = extra_.bytes();
  header_.Put(extra.size(), 32);
  rans_.Start(frequencies_);
  const absl::Span<const char> coded =
      rans_.Encode(tokens_, contexts_, class_of_);
  const absl::Span<const char> header = header_.bytes();
  out += static_cast<char>(DeltaMethod::kDifferences);
  out.append(header.data(), header.size());
  out.append(map_.data(), map_.size());
  out.append(extra.data(), extra.size());
  out.append(coded.data(), coded.size());
}

void DeltaEncoder::AppendPlanes(absl::Span<const char> base,
                                absl::Span<const char> tuned, int width,
                                size_t begin, std::string& out) {
  const auto keep_if_shorter = [&](DeltaMethod method,
                                   absl::Span<const char> block) {
    attempt_.assign(1, static_cast<char>(method));
    planes_.Encode(block, width, attempt_);
    if (attempt_.size() < out.size() - begin) {
      out.replace(begin, std::string::npos, attempt_);
    }
  };
  keep_if_shorter(DeltaMethod::kPlanes, tuned);
  xor_.resize(tuned.size());
  for (size_t i = 0; i < tuned.size(); ++i) {
    xor_[i] = static_cast<char>(base[i] ^ tuned[i]);
  }
  keep_if_shorter(DeltaMethod::kXorPlanes, xor_);
}

void DeltaEncoder::Encode(absl::Span<const char> base,
                          absl::Span<const char> tuned, ElementForm form,
                          std::string& out) {
  CAIRN_CHECK(IsPlaneWidth(form.width) && base.size() == tuned.size() &&
              base.size() <= kDeltaBlockBytesMax &&
              base.size() % static_cast<size_t>(form.width) == 0);
  if (base == tuned) {
    out += static_cast<char>(DeltaMethod::kUnchanged);
    return;
  }
  const size_t begin = out.size();
  const size_t count = base.size() / static_cast<size_t>(form.width);
  switch (form.width) {
    case 1:
      Compare<uint8_t>(base.data(), tuned.data(), count, form);
      break;
    case 2:
      Compare<uint16_t>(base.data(), tuned.data(), count, form);
      break;
    case 4:
      Compare<uint32_t>(base.data(), tuned.data(), count, form);
      break;
    default:
      Compare<uint64_t>(base.data(), tuned.data(), count, form);
  }
  Classify(DeltaTokenLimit(form));
  AppendDifferences(out);
  if (static_cast<double>(out.size() - begin) >
      kDifferencesGood * static_cast<double>(base.size())) {
    AppendPlanes(base, tuned, form.width, begin, out);
  }
}

}  // namespace cairn
