#include "core/codec/position_codec.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/codec/element_order.h"
#include "core/codec/gap_models.h"

namespace cairn {
namespace {

// The first byte of a block: a gap model's number, or one of these.
constexpr int kRice = 128;  // plus the number of low bits
constexpr int kOwnTable = 255;
constexpr unsigned kRiceBitsMax = 61;
constexpr size_t kNoSkip = 256;
// Rice's code takes a few hundredths of a bit more a gap, and no states.
constexpr size_t kRiceWorthwhile = 1024;

// A block under rANS: method, skips and bytes of raw bits.
constexpr size_t kRansHead = 5;
constexpr size_t kSlack = 1024;
static_assert(kSlack >= RansDecoder::kOverrun + 8 &&
              kSlack >= RansDecoder::kTokensMax * 8 + 8);

absl::Status Broken(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("coded positions: ", what));
}

absl::Status PastLast(int64_t limit) {
  return Broken(absl::StrCat("a position is past the last, ", limit - 1));
}

void PutWide(BitWriter& bits, uint64_t value, unsigned count) {
  if (count > 32) {
    bits.Put(value & 0xffffffff, 32);
    value >>= 32;
    count -= 32;
  }
  bits.Put(value & ((uint64_t{1} << count) - 1), count);
}

uint64_t GetWide(BitReader& bits, unsigned count) {
  if (count <= 32) return bits.Get(count);
  const uint64_t low = bits.Get(32);
  return low | bits.Get(count - 32) << 32;
}

// Bits of Rice's code for gaps with that sum, at most.
double RiceBits(const std::vector<uint64_t>& gaps, unsigned low_bits) {
  double bits = 0;
  for (const uint64_t gap : gaps) {
    bits += static_cast<double>(gap >> low_bits) + 1 + low_bits;
  }
  return bits;
}

// Skipping takes no extra bits, unlike the same token elsewhere.
double TokenBits(const std::array<uint32_t, 256>& counts,
                 const RansFrequencies& frequencies, size_t skip) {
  double bits = 8.0 * (kRansHead + kRansHeadBytes);
  for (size_t t = 0; t < counts.size(); ++t) {
    if (counts[t] == 0) continue;
    const int extra = t == skip ? 0 : kTokenRanges[t].extra_bits;
    bits += counts[t] * (kRansBits - std::log2(frequencies[t]) + extra);
  }
  return bits;
}

double TableBits(const RansFrequencies& frequencies) {
  size_t used = 256;
  while (frequencies[used - 1] == 0) --used;
  double bits = 16;
  for (size_t t = 0; t < used; ++t) {
    bits += 2 * std::bit_width(frequencies[t] + 1U) - 1;
  }
  return bits;
}

void AppendShort(size_t value, std::string& out) {
  out += static_cast<char>(value & 0xff);
  out += static_cast<char>(value >> 8);
}

size_t ShortAt(absl::string_view bytes, size_t at) {
  return static_cast<uint8_t>(bytes[at]) |
         size_t{static_cast<uint8_t>(bytes[at + 1])} << 8;
}

}  // namespace

double PositionEntropyBits(int64_t count, int64_t elements) {
  if (count <= 0 || count >= elements) return 0;
  const auto n = static_cast<double>(elements);
  const double d = static_cast<double>(count) / n;
  return -n * (d * std::log2(d) + (1 - d) * std::log2(1 - d));
}

size_t PositionEncoder::Tokenise(size_t skip_token) {
  tokens_.clear();
  counts_ = {};
  const uint64_t skip =
      skip_token != kNoSkip ? kTokenRanges[skip_token].first : UINT64_MAX;
  for (uint64_t gap : gaps_) {
    for (; gap >= skip; gap -= skip) {
      tokens_.push_back(static_cast<uint8_t>(skip_token));
      // A model that has to skip so often is not this block's.
      if (tokens_.size() > 2 * gaps_.size()) return SIZE_MAX;
    }
    tokens_.push_back(TokenOf(gap).token);
  }
  for (const uint8_t token : tokens_) ++counts_[token];
  return tokens_.size() - gaps_.size();
}

void PositionEncoder::AppendRice(unsigned low_bits, std::string& out) {
  bits_.Start(static_cast<size_t>(RiceBits(gaps_, low_bits)));
  for (const uint64_t gap : gaps_) {
    uint64_t quotient = gap >> low_bits;
    for (; quotient >= 32; quotient -= 32) bits_.Put(0, 32);
    bits_.Put(uint64_t{1} << quotient, static_cast<unsigned>(quotient) + 1);
    PutWide(bits_, gap & ((uint64_t{1} << low_bits) - 1), low_bits);
  }
  const absl::Span<const char> bytes = bits_.bytes();
  out += static_cast<char>(kRice + static_cast<int>(low_bits));
  out.append(bytes.data(), bytes.size());
}

void PositionEncoder::AppendRans(int model, std::string& out) {
  const bool is_own = model == kOwnTable;
  const size_t skip = is_own ? kNoSkip : GapModelOf(model).skip;
  const size_t skips = Tokenise(skip);
  const RansFrequencies table =
      is_own ? ScaleCounts(counts_) : GapModelOf(model).frequencies;
  out += static_cast<char>(model);
  AppendShort(skips, out);
  const size_t raw_bytes_at = out.size();
  AppendShort(0, out);
  if (is_own) {
    size_t used = 256;
    while (table[used - 1] == 0) --used;
    bits_.Start(8 + used * (2 * kRansBits + 1));
    bits_.Put(used - 1, 8);
    for (size_t t = 0; t < used; ++t) bits_.PutGamma(uint64_t{table[t]} + 1);
    out.append(bits_.bytes().data(), bits_.bytes().size());
  }
  bits_.Start(gaps_.size() * 64);
  const uint64_t step = skip != kNoSkip ? kTokenRanges[skip].first : UINT64_MAX;
  for (const uint64_t gap : gaps_) {
    const uint64_t rest = gap % step;
    const Token token = TokenOf(rest);
    PutWide(bits_, rest & ((uint64_t{1} << token.extra_bits) - 1),
            token.extra_bits);
  }
  const absl::Span<const char> raw = bits_.bytes();
  out[raw_bytes_at] = static_cast<char>(raw.size() & 0xff);
  out[raw_bytes_at + 1] = static_cast<char>(raw.size() >> 8);
  out.append(raw.data(), raw.size());
  contexts_.assign(tokens_.size(), 0);
  rans_.Start({&table, 1});
  const absl::Span<const char> coded = rans_.Encode(tokens_, contexts_, {});
  out.append(coded.data(), coded.size());
}

void PositionEncoder::Encode(int64_t previous,
                             absl::Span<const int64_t> positions,
                             std::string& out) {
  CAIRN_CHECK(!positions.empty() && positions.size() <= kPositionBlock);
  const auto count = static_cast<double>(positions.size());
  const auto span = static_cast<double>(positions.back() - previous);
  gaps_.clear();
  for (const int64_t position : positions) {
    CAIRN_CHECK(position > previous && position < kPositionLimit);
    gaps_.push_back(static_cast<uint64_t>(position - previous - 1));
    previous = position;
  }
  // The block's own table, the nearest model, or Rice's code.
  Tokenise(kNoSkip);
  const RansFrequencies own = ScaleCounts(counts_);
  int method = kOwnTable;
  double least = TokenBits(counts_, own, kNoSkip) + TableBits(own);
  const auto hold = [&](int other, double bits) {
    if (bits < least) {
      least = bits;
      method = other;
    }
  };
  const int model = NearestGapModel(count, span);
  if (Tokenise(GapModelOf(model).skip) <= gaps_.size()) {
    const GapModel& nearest = GapModelOf(model);
    hold(model, TokenBits(counts_, nearest.frequencies, nearest.skip));
  }
  if (gaps_.size() <= kRiceWorthwhile) {
    const double mean = (span - count) / count;
    const int best = static_cast<int>(std::log2(std::max(1.0, mean)));
    for (int r = std::max(0, best - 1); r <= best + 1; ++r) {
      hold(kRice + r, 8 + RiceBits(gaps_, static_cast<unsigned>(r)));
    }
  }
  if (method >= kRice && method != kOwnTable) {
    AppendRice(static_cast<unsigned>(method - kRice), out);
  } else {
    AppendRans(method, out);
  }
}

absl::Status PositionDecoder::Decode(absl::string_view coded, int64_t previous,
                                     int64_t limit,
                                     absl::Span<int64_t> positions) {
  if (coded.empty()) return Broken("a block is empty");
  CAIRN_CHECK(!positions.empty() && positions.size() <= kPositionBlock &&
              limit <= kPositionLimit);
  padded_.resize(std::max(padded_.size(), coded.size() + kSlack));
  std::memcpy(padded_.data(), coded.data(), coded.size());
  std::memset(padded_.data() + coded.size(), 0, kSlack);
  const int method = static_cast<uint8_t>(coded[0]);
  if (method >= kRice && method != kOwnTable) {
    const auto low_bits = static_cast<unsigned>(method - kRice);
    if (low_bits > kRiceBitsMax) {
      return Broken(absl::StrCat("method ", method, " is none that there is"));
    }
    return DecodeRice(coded, low_bits, previous, limit, positions);
  }
  if (method != kOwnTable && (method == 0 || method >= kGapModels)) {
    return Broken(absl::StrCat("method ", method, " is none that there is"));
  }
  return DecodeRans(coded, method, previous, limit, positions);
}

absl::Status PositionDecoder::DecodeRice(absl::string_view coded,
                                         unsigned low_bits, int64_t previous,
                                         int64_t limit,
                                         absl::Span<int64_t> positions) {
  BitReader bits(padded_.data() + 1);
  const size_t size = 8 * (coded.size() - 1);
  const auto most = static_cast<uint64_t>(std::max<int64_t>(limit, 0));
  for (int64_t& position : positions) {
    uint64_t quotient = 0;
    while (bits.Get(1) == 0) {
      ++quotient;
      if (bits.position() > size) return Broken("a block is cut short");
    }
    const uint64_t low = GetWide(bits, low_bits);
    if (bits.position() > size) return Broken("a block is cut short");
    if (quotient > most >> low_bits) return PastLast(limit);
    const uint64_t gap = quotient << low_bits | low;
    const auto next = static_cast<uint64_t>(previous + 1) + gap;
    if (next >= most) return PastLast(limit);
    position = previous = static_cast<int64_t>(next);
  }
  if ((bits.position() + 7) / 8 != coded.size() - 1) {
    return Broken("a block is longer than its positions take");
  }
  return absl::OkStatus();
}

absl::StatusOr<size_t> PositionDecoder::ReadTable(size_t size) {
  BitReader bits(padded_.data() + kRansHead);
  const size_t used = bits.Get(8) + 1;
  table_ = {};
  uint32_t sum = 0;
  for (size_t t = 0; t < used; ++t) {
    unsigned zeros = 0;
    while (bits.Get(1) == 0 && zeros <= kRansBits) ++zeros;
    if (zeros > kRansBits || bits.position() > 8 * (size - kRansHead)) {
      return Broken("a block ends in its table");
    }
    const auto coded =
        static_cast<uint32_t>(uint64_t{1} << zeros | bits.Get(zeros));
    table_[t] = static_cast<uint16_t>(coded - 1);
    sum += coded - 1;
  }
  if (sum != kRansTotal) {
    return Broken(absl::StrCat("the frequencies of a table have sum ", sum,
                               "; ", kRansTotal, " is right"));
  }
  return (bits.position() + 7) / 8;
}

absl::Status PositionDecoder::DecodeRans(absl::string_view coded, int model,
                                         int64_t previous, int64_t limit,
                                         absl::Span<int64_t> positions) {
  if (coded.size() < kRansHead + kRansHeadBytes) {
    return Broken("a block is cut short");
  }
  const size_t skips = ShortAt(coded, 1);
  const size_t raw_bytes = ShortAt(coded, 3);
  size_t at = kRansHead;
  if (model == kOwnTable) {
    CAIRN_ASSIGN_OR_RETURN(const size_t bytes, ReadTable(coded.size()));
    at += bytes;
    model_ = -1;
    rans_.SetTables({&table_, 1});
  } else if (model_ != model) {
    model_ = model;
    rans_.SetTables({&GapModelOf(model).frequencies, 1});
  }
  if (skips > (model == kOwnTable ? 0 : positions.size()) ||
      at + raw_bytes + kRansHeadBytes > coded.size()) {
    return Broken("a block's parts do not fit its length");
  }
  if (!rans_.Start(
          {padded_.data() + at + raw_bytes, coded.size() - at - raw_bytes})) {
    return Broken("the states of a block are none");
  }
  const size_t skip = model == kOwnTable ? kNoSkip : GapModelOf(model).skip;
  const auto most = static_cast<uint64_t>(std::max<int64_t>(limit, 0));
  BitReader bits(padded_.data() + at);
  static constexpr uint8_t kClasses[RansDecoder::kTokensMax] = {};
  uint8_t tokens[RansDecoder::kTokensMax];
  size_t done = 0;
  bool ends_in_skip = false;
  auto next = static_cast<uint64_t>(previous + 1);
  for (size_t left = positions.size() + skips; left > 0;) {
    const size_t n = std::min(left, RansDecoder::kTokensMax);
    rans_.Decode(kClasses, n, tokens);
    left -= n;
    ends_in_skip = tokens[n - 1] == skip;
    for (size_t i = 0; i < n; ++i) {
      const TokenRange& range = kTokenRanges[tokens[i]];
      if (tokens[i] == skip) {
        next += range.first;
        continue;
      }
      if (range.first > most) return PastLast(limit);
      next += range.first + GetWide(bits, range.extra_bits);
      if (next >= most || done == positions.size()) return PastLast(limit);
      positions[done++] = static_cast<int64_t>(next++);
    }
    if (!rans_.IsWithin() || bits.position() > 8 * raw_bytes) {
      return Broken("a block is cut short");
    }
  }
  if (done != positions.size() || ends_in_skip || !rans_.IsDone() ||
      (bits.position() + 7) / 8 != raw_bytes) {
    return Broken("a block is longer than its positions take");
  }
  return absl::OkStatus();
}

}  // namespace cairn
