#include "core/base/digest.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/log.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace cairn {
namespace {

bool IsLowerHex(absl::string_view text) {
  for (char c : text) {
    if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return false;
  }
  return true;
}

std::array<uint32_t, 256> MakeCrcTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78U : 0U);
    }
    table[i] = crc;
  }
  return table;
}

uint32_t Crc32cPortable(absl::string_view bytes, uint32_t crc) {
  static const std::array<uint32_t, 256> kTable = MakeCrcTable();
  for (char c : bytes) {
    crc = kTable[(crc ^ static_cast<uint8_t>(c)) & 0xff] ^ (crc >> 8);
  }
  return crc;
}

#if defined(__x86_64__)
// The instruction takes one cycle to start and three to end, so three runs of
// bytes are taken at a time, each by a chain of its own.
constexpr size_t kRunBytes = 1024;

// What a run of zero bytes makes of a CRC: linear, so the sum over its bytes.
using ZeroRunTable = std::array<std::array<uint32_t, 256>, 4>;

__attribute__((target("sse4.2"))) ZeroRunTable MakeZeroRunTable() {
  ZeroRunTable table{};
  for (size_t byte = 0; byte < table.size(); ++byte) {
    for (uint32_t value = 0; value < 256; ++value) {
      uint64_t crc = value << (8 * byte);
      for (size_t i = 0; i < kRunBytes; i += 8) crc = _mm_crc32_u64(crc, 0);
      table[byte][value] = static_cast<uint32_t>(crc);
    }
  }
  return table;
}

uint32_t PassZeroRun(const ZeroRunTable& table, uint64_t crc) {
  return table[0][crc & 0xff] ^ table[1][(crc >> 8) & 0xff] ^
         table[2][(crc >> 16) & 0xff] ^ table[3][(crc >> 24) & 0xff];
}

__attribute__((target("sse4.2"))) uint64_t AddWord(uint64_t crc,
                                                   const char* p) {
  uint64_t word;
  std::memcpy(&word, p, 8);
  return _mm_crc32_u64(crc, word);
}

__attribute__((target("sse4.2"))) uint32_t Crc32cSse(absl::string_view bytes,
                                                     uint32_t crc) {
  static const ZeroRunTable kZeroRun = MakeZeroRunTable();
  uint64_t wide = crc;
  const char* p = bytes.data();
  size_t n = bytes.size();
  for (; n >= 3 * kRunBytes; p += 3 * kRunBytes, n -= 3 * kRunBytes) {
    uint64_t second = 0;
    uint64_t third = 0;
    for (size_t i = 0; i < kRunBytes; i += 8) {
      wide = AddWord(wide, p + i);
      second = AddWord(second, p + kRunBytes + i);
      third = AddWord(third, p + 2 * kRunBytes + i);
    }
    wide = PassZeroRun(kZeroRun, wide) ^ second;
    wide = PassZeroRun(kZeroRun, wide) ^ third;
  }
  for (; n >= 8; p += 8, n -= 8) wide = AddWord(wide, p);
  auto out = static_cast<uint32_t>(wide);
  for (; n > 0; ++p, --n) {
    out = _mm_crc32_u8(out, static_cast<uint8_t>(*p));
  }
  return out;
}
#endif

}  // namespace

absl::StatusOr<Digest> Digest::Parse(absl::string_view text) {
  absl::string_view hex = absl::StripPrefix(text, "sha256:");
  if (hex.size() != 2 * kBytes || !IsLowerHex(hex)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text.substr(0, 80),
                     "\" is not a SHA-256: want 64 lower-case hex digits"));
  }
  std::string raw = absl::HexStringToBytes(hex);
  Digest digest;
  std::memcpy(digest.bytes_.data(), raw.data(), kBytes);
  return digest;
}

Digest Digest::Of(absl::string_view bytes) {
  Hasher hasher;
  hasher.Update(bytes);
  return hasher.Finish();
}

std::string Digest::hex() const {
  return ToHex(absl::string_view(reinterpret_cast<const char*>(bytes_.data()),
                                 bytes_.size()));
}

std::string Digest::prefixed() const { return absl::StrCat("sha256:", hex()); }

struct Hasher::State {
  explicit State(Kind k) : kind(k), context(EVP_MD_CTX_new()) { Reset(); }
  ~State() { EVP_MD_CTX_free(context); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  void Reset() {
    CAIRN_CHECK(EVP_DigestInit_ex(
                    context,
                    kind == Kind::kSha256 ? EVP_sha256() : EVP_sha1(),
                    nullptr) == 1);
  }

  Kind kind;
  EVP_MD_CTX* context;
};

Hasher::Hasher(Kind kind) : state_(std::make_unique<State>(kind)) {}
Hasher::~Hasher() = default;
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;

void Hasher::Update(absl::string_view bytes) {
  CAIRN_CHECK(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) ==
              1);
}

Digest Hasher::Finish() {
  CAIRN_CHECK(state_->kind == Kind::kSha256);
  std::array<uint8_t, Digest::kBytes> out;
  CAIRN_CHECK(EVP_DigestFinal_ex(state_->context, out.data(), nullptr) == 1);
  state_->Reset();
  return Digest(out);
}

std::string Hasher::FinishHex() {
  std::array<char, EVP_MAX_MD_SIZE> out;
  unsigned int size = 0;
  CAIRN_CHECK(EVP_DigestFinal_ex(state_->context,
                                 reinterpret_cast<unsigned char*>(out.data()),
                                 &size) == 1);
  state_->Reset();
  return ToHex(absl::string_view(out.data(), size));
}

Hasher GitBlobHasher(int64_t size_bytes) {
  Hasher hasher(Hasher::Kind::kSha1);
  std::string header = absl::StrCat("blob ", size_bytes);
  hasher.Update(absl::string_view(header.c_str(), header.size() + 1));
  return hasher;
}

uint32_t Crc32c(absl::string_view bytes, uint32_t crc) {
  crc = ~crc;
#if defined(__x86_64__)
  static const bool kHasSse = __builtin_cpu_supports("sse4.2") != 0;
  if (kHasSse) return ~Crc32cSse(bytes, crc);
#endif
  return ~Crc32cPortable(bytes, crc);
}

std::string ToHex(absl::string_view bytes) {
  return absl::BytesToHexString(bytes);
}

absl::StatusOr<std::string> FromHex(absl::string_view hex) {
  if (hex.size() % 2 != 0 || !IsLowerHex(hex)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", hex.substr(0, 80), "\" is not lower-case hexadecimal"));
  }
  return absl::HexStringToBytes(hex);
}

std::string RandomBytes(size_t bytes) {
  std::string out(bytes, '\0');
  CAIRN_CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(out.data()),
                         static_cast<int>(bytes)) == 1);
  return out;
}

}  // namespace cairn
