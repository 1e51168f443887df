// Any bytes as a file of a packed blob, with magic, digest and checksums made
// to fit, since they would stop whatever a disk changed: refused, or each read
// gives bytes or an error.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "core/base/digest.h"
#include "core/base/log.h"
#include "storage/fs/packed_blob.h"

namespace {

uint32_t NumberAt(const std::string& bytes, size_t at) {
  uint32_t number = 0;
  for (size_t i = 4; i-- > 0;) {
    number = number << 8 | static_cast<uint8_t>(bytes[at + i]);
  }
  return number;
}

void PutNumber(uint32_t number, size_t at, std::string& bytes) {
  for (size_t i = 0; i < 4; ++i) {
    bytes[at + i] = static_cast<char>(number >> (8 * i));
  }
}

// As storage/fs/packed_blob.h lays it out.
void Mend(const cairn::Digest& digest, std::string& bytes) {
  if (bytes.size() < 64) return;
  const auto& sha256 = digest.bytes();
  bytes.replace(0, 8, "CAIRNPK1");
  bytes.replace(24, 32, reinterpret_cast<const char*>(sha256.data()), 32);
  const size_t blocks = NumberAt(bytes, 20);
  if (blocks <= (bytes.size() - 64) / 8) {
    size_t begin = 64 + 8 * blocks;
    for (size_t at = 64; at < 64 + 8 * blocks; at += 8) {
      const size_t size = NumberAt(bytes, at);
      if (size > bytes.size() - begin) break;
      const absl::string_view coded(bytes.data() + begin, size);
      PutNumber(cairn::Crc32c(coded), at + 4, bytes);
      begin += size;
    }
    PutNumber(cairn::Crc32c({bytes.data() + 64, 8 * blocks}), 56, bytes);
  }
  PutNumber(cairn::Crc32c({bytes.data(), 60}), 60, bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string path = [] {
    const int file = memfd_create("packed", MFD_CLOEXEC);
    CAIRN_CHECK(file >= 0);
    return "/proc/self/fd/" + std::to_string(file);
  }();
  auto file = cairn::PosixFile::Open(path, O_RDWR | O_TRUNC);
  CAIRN_CHECK(file.ok());
  std::string bytes(reinterpret_cast<const char*>(data), size);
  const cairn::Digest digest = cairn::Digest::Of("plain");
  Mend(digest, bytes);
  CAIRN_CHECK(file->WriteAt(0, bytes).ok());
  (void)cairn::PackedPlainSize(*file, digest);
  const auto plain = cairn::OpenPacked(*std::move(file), digest);
  if (!plain.ok()) return 0;
  std::string tile(4096, '\0');
  for (int64_t at = 0; at < std::min<int64_t>((*plain)->size(), 1 << 20);) {
    const int64_t length = std::min<int64_t>(4096, (*plain)->size() - at);
    (void)(*plain)->ReadAt(
        at, absl::MakeSpan(tile).subspan(0, static_cast<size_t>(length)));
    at += length;
  }
  return 0;
}
