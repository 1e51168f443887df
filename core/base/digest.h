#ifndef CAIRN_CORE_BASE_DIGEST_H_
#define CAIRN_CORE_BASE_DIGEST_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace cairn {

// A SHA-256 digest. A value type: copy freely. Ordered by its bytes.
class Digest {
 public:
  static constexpr size_t kBytes = 32;

  Digest() = default;
  explicit Digest(std::array<uint8_t, kBytes> bytes) : bytes_(bytes) {}

  // From 64 lower-case hex digits, with or without "sha256:" before them.
  // INVALID_ARGUMENT otherwise.
  static absl::StatusOr<Digest> Parse(absl::string_view text);
  // Of bytes in memory.
  static Digest Of(absl::string_view bytes);

  // 64 lower-case hex digits.
  std::string hex() const;
  // "sha256:" + hex, as releases and updates are named.
  std::string prefixed() const;
  const std::array<uint8_t, kBytes>& bytes() const { return bytes_; }

  friend auto operator<=>(const Digest&, const Digest&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const Digest& d) {
    return H::combine(std::move(h), d.bytes_);
  }

 private:
  std::array<uint8_t, kBytes> bytes_ = {};
};

// Computes a digest of a stream of bytes. Not thread-safe. Uses OpenSSL.
class Hasher {
 public:
  enum class Kind { kSha256, kSha1 };

  explicit Hasher(Kind kind = Kind::kSha256);
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;

  void Update(absl::string_view bytes);
  // The SHA-256 of what was added; the hasher is then empty again. Only for
  // Kind::kSha256.
  Digest Finish();
  // The same as lower-case hex, for either kind.
  std::string FinishHex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// A SHA-1 hasher that has taken in git's blob header for `size_bytes` bytes,
// so that FinishHex() gives the id git would give the file.
Hasher GitBlobHasher(int64_t size_bytes);

// CRC-32C (Castagnoli, RFC 3720) of `bytes`, continuing from `crc`.
uint32_t Crc32c(absl::string_view bytes, uint32_t crc = 0);

// Lower-case hex of any bytes, and back (INVALID_ARGUMENT on other digits).
std::string ToHex(absl::string_view bytes);
absl::StatusOr<std::string> FromHex(absl::string_view hex);

// `bytes` bytes from the operating system's generator.
std::string RandomBytes(size_t bytes);

}  // namespace cairn

#endif  // CAIRN_CORE_BASE_DIGEST_H_
