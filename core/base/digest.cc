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
__attribute__((target("sse4.2"))) uint32_t Crc32cSse(absl::string_view bytes,
                                                     uint32_t crc) {
  uint64_t wide = crc;
  const char* p = bytes.data();
  size_t n = bytes.size();
  for (; n >= 8; p += 8, n -= 8) {
    uint64_t word;
    std::memcpy(&word, p, 8);
    wide = _mm_crc32_u64(wide, word);
  }
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
