#include "core/base/lane_hasher.h"

#include <algorithm>
#include <cstring>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace cairn {
namespace {

// FIPS 180-4, section 5.3.3, in the order of `state_`: f e b a h g d c.
constexpr std::array<uint32_t, 8> kInitial = {
    0x9b05688c, 0x510e527f, 0xbb67ae85, 0x6a09e667,
    0x5be0cd19, 0x1f83d9ab, 0xa54ff53a, 0x3c6ef372};
// Where word i of the digest lies in it.
constexpr std::array<size_t, 8> kWordAt = {3, 2, 7, 6, 1, 0, 5, 4};

#if defined(__x86_64__)

constexpr size_t kBlock = 64;

// FIPS 180-4, section 4.2.2.
alignas(64) constexpr uint32_t kRoundConstants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1,
    0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
    0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
    0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
    0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
    0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

#define CAIRN_SHA_TARGET __attribute__((target("sha,avx")))

bool HasShaInstructions() {
  unsigned int a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  const bool has_sha = (b & (1U << 29)) != 0;
  return has_sha && __builtin_cpu_supports("avx") != 0;
}

// Takes `blocks` blocks of each of kStreams streams, a round of one beside the
// same round of the others.
template <size_t kStreams>
CAIRN_SHA_TARGET void TakeBlocks(uint32_t* const* states,
                                 const char* const* bytes, size_t blocks) {
  const __m128i to_big_endian =
      _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  __m128i abef[kStreams], cdgh[kStreams];
  for (size_t s = 0; s < kStreams; ++s) {
    const auto* state = reinterpret_cast<const __m128i*>(states[s]);
    abef[s] = _mm_load_si128(state);
    cdgh[s] = _mm_load_si128(state + 1);
  }
  for (size_t block = 0; block < blocks; ++block) {
    __m128i abef_before[kStreams], cdgh_before[kStreams];
    __m128i words[kStreams][4];  // the last 16 of the schedule
    for (size_t s = 0; s < kStreams; ++s) {
      abef_before[s] = abef[s];
      cdgh_before[s] = cdgh[s];
    }
#pragma GCC unroll 16
    for (int r = 0; r < 16; ++r) {
#pragma GCC unroll 4
      for (size_t s = 0; s < kStreams; ++s) {
        __m128i& word = words[s][r % 4];
        if (r < 4) {
          const auto* from = reinterpret_cast<const __m128i*>(
              bytes[s] + kBlock * block + 16 * static_cast<size_t>(r));
          word = _mm_shuffle_epi8(_mm_loadu_si128(from), to_big_endian);
        } else {
          const __m128i last = words[s][(r + 3) % 4];
          const __m128i sum = _mm_add_epi32(
              _mm_sha256msg1_epu32(word, words[s][(r + 1) % 4]),
              _mm_alignr_epi8(last, words[s][(r + 2) % 4], 4));
          word = _mm_sha256msg2_epu32(sum, last);
        }
        const __m128i constants = _mm_load_si128(
            reinterpret_cast<const __m128i*>(kRoundConstants) + r);
        const __m128i added = _mm_add_epi32(word, constants);
        cdgh[s] = _mm_sha256rnds2_epu32(cdgh[s], abef[s], added);
        abef[s] = _mm_sha256rnds2_epu32(abef[s], cdgh[s],
                                        _mm_shuffle_epi32(added, 0x0e));
      }
    }
    for (size_t s = 0; s < kStreams; ++s) {
      abef[s] = _mm_add_epi32(abef[s], abef_before[s]);
      cdgh[s] = _mm_add_epi32(cdgh[s], cdgh_before[s]);
    }
  }
  for (size_t s = 0; s < kStreams; ++s) {
    auto* state = reinterpret_cast<__m128i*>(states[s]);
    _mm_store_si128(state, abef[s]);
    _mm_store_si128(state + 1, cdgh[s]);
  }
}

void TakeStreams(size_t streams, uint32_t* const* states,
                 const char* const* bytes, size_t blocks) {
  switch (streams) {
    case 1:
      return TakeBlocks<1>(states, bytes, blocks);
    case 2:
      return TakeBlocks<2>(states, bytes, blocks);
    case 3:
      return TakeBlocks<3>(states, bytes, blocks);
    default:
      return TakeBlocks<4>(states, bytes, blocks);
  }
}

#else

bool HasShaInstructions() { return false; }

void TakeStreams(size_t, uint32_t* const*, const char* const*, size_t) {}

#endif

}  // namespace

LaneHasher::LaneHasher() {
  static const bool kHasInstructions = HasShaInstructions();
  if (!kHasInstructions) portable_.emplace();
  Reset();
}

void LaneHasher::Reset() {
  state_ = kInitial;
  begun_bytes_ = 0;
  bytes_ = 0;
}

absl::string_view LaneHasher::FillBlock(absl::string_view bytes) {
  const size_t count = std::min(bytes.size(), kBlock - begun_bytes_);
  if (count > 0) std::memcpy(&begun_[begun_bytes_], bytes.data(), count);
  begun_bytes_ += count;
  if (begun_bytes_ == kBlock) {
    uint32_t* state = state_.data();
    const char* block = begun_.data();
    TakeStreams(1, &state, &block, 1);
    begun_bytes_ = 0;
  }
  return bytes.substr(count);
}

void LaneHasher::UpdateAll(absl::Span<const Part> parts) {
  struct Stream {
    LaneHasher* hasher;
    absl::string_view left;
  };
  std::vector<Stream> streams;
  for (const Part& part : parts) {
    if (part.hasher->portable_) {
      part.hasher->portable_->Update(part.bytes);
      continue;
    }
    part.hasher->bytes_ += part.bytes.size();
    absl::string_view left = part.bytes;
    if (part.hasher->begun_bytes_ > 0) left = part.hasher->FillBlock(left);
    if (!left.empty()) streams.push_back({part.hasher, left});
  }
  // The longest first, so that as many as can go together do.
  std::sort(streams.begin(), streams.end(), [](const auto& a, const auto& b) {
    return a.left.size() > b.left.size();
  });
  while (!streams.empty()) {
    const size_t lanes = std::min(kLanes, streams.size());
    uint32_t* states[kLanes];
    const char* bytes[kLanes];
    size_t blocks = streams[0].left.size() / kBlock;
    for (size_t i = 1; i < lanes; ++i) {
      blocks = std::min(blocks, streams[i].left.size() / kBlock);
    }
    for (size_t i = 0; i < lanes; ++i) {
      states[i] = streams[i].hasher->state_.data();
      bytes[i] = streams[i].left.data();
      streams[i].left.remove_prefix(blocks * kBlock);
    }
    if (blocks > 0) TakeStreams(lanes, states, bytes, blocks);
    for (size_t i = lanes; i-- > 0;) {
      if (streams[i].left.size() >= kBlock) continue;
      streams[i].hasher->FillBlock(streams[i].left);
      streams.erase(streams.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
}

Digest LaneHasher::Finish() {
  if (portable_) return portable_->Finish();
  // FIPS 180-4, section 5.1.1: a one, zeros, and the length in bits.
  const uint64_t bits = bytes_ * 8;
  std::array<char, 2 * kBlock> padding = {};
  padding[0] = static_cast<char>(0x80);
  const size_t zeros_end =
      begun_bytes_ < kBlock - 8 ? kBlock - 8 : 2 * kBlock - 8;
  const size_t count = zeros_end - begun_bytes_;
  for (size_t i = 0; i < 8; ++i) {
    padding[count + i] = static_cast<char>(bits >> (56 - 8 * i));
  }
  absl::string_view left(padding.data(), count + 8);
  while (!left.empty()) left = FillBlock(left);
  std::array<uint8_t, Digest::kBytes> digest;
  for (size_t word = 0; word < 8; ++word) {
    for (size_t i = 0; i < 4; ++i) {
      digest[4 * word + i] =
          static_cast<uint8_t>(state_[kWordAt[word]] >> (24 - 8 * i));
    }
  }
  Reset();
  return Digest(digest);
}

}  // namespace cairn
