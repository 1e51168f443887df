#include "storage/fs/packed_blob.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/mutex.h"
#include "core/base/status_macros.h"
#include "core/codec/plane_codec.h"

namespace cairn {
namespace {

constexpr char kMagic[] = "CAIRNPK1";
constexpr int64_t kHeaderBytes = 64;
constexpr int64_t kEntryBytes = 8;
// Samples of a probe.
constexpr int64_t kProbes = 4;
constexpr int64_t kProbeBytes = 16 << 10;
// A packed blob takes at most this part of the plain one, else it stays plain.
constexpr double kWorthRatio = 0.9;
// Coded bytes that are read at once.
constexpr int64_t kReadBytes = 1 << 20;

template <typename Int>
void PutNumber(std::string& out, Int value) {
  for (size_t i = 0; i < sizeof(Int); ++i) {
    out.push_back(static_cast<char>(value >> (8 * i)));
  }
}

template <typename Int>
Int GetNumber(absl::string_view bytes, size_t offset) {
  Int value = 0;
  for (size_t i = 0; i < sizeof(Int); ++i) {
    value |= static_cast<Int>(static_cast<uint8_t>(bytes[offset + i]))
             << (8 * i);
  }
  return value;
}

absl::Status Damaged(const Digest& digest, absl::string_view what) {
  return absl::DataLossError(absl::StrCat("blob ", digest.hex(), ": ", what,
                                          ": its bytes changed on the disk"));
}

int64_t BlocksOf(int64_t size, int64_t block_bytes) {
  return size / block_bytes + (size % block_bytes == 0 ? 0 : 1);
}

struct PackedHeader {
  int64_t size = 0;
  int64_t block_bytes = 0;
  int64_t blocks = 0;
  uint32_t index_crc = 0;
};

absl::StatusOr<PackedHeader> ReadHeader(const PosixFile& file,
                                        int64_t file_bytes,
                                        const Digest& digest) {
  if (file_bytes < kHeaderBytes) return Damaged(digest, "its header is cut");
  std::string bytes(kHeaderBytes, '\0');
  CAIRN_RETURN_IF_ERROR(file.ReadAt(0, absl::MakeSpan(bytes), file_bytes));
  const absl::string_view view = bytes;
  const auto& sha256 = digest.bytes();
  if (view.substr(0, 8) != kMagic ||
      GetNumber<uint32_t>(view, 60) != Crc32c(view.substr(0, 60)) ||
      std::memcmp(bytes.data() + 24, sha256.data(), sha256.size()) != 0) {
    return Damaged(digest, "its header is not that of the packed blob");
  }
  PackedHeader header;
  header.size = static_cast<int64_t>(GetNumber<uint64_t>(view, 8));
  header.block_bytes = GetNumber<uint32_t>(view, 16);
  header.blocks = GetNumber<uint32_t>(view, 20);
  header.index_crc = GetNumber<uint32_t>(view, 56);
  if (header.size < 0 || header.block_bytes < 1 ||
      header.block_bytes > static_cast<int64_t>(kPlaneBlockBytesMax) ||
      header.blocks != BlocksOf(header.size, header.block_bytes) ||
      header.blocks > (file_bytes - kHeaderBytes) / kEntryBytes) {
    return Damaged(digest, "its header has sizes that do not fit");
  }
  return header;
}

class PackedSource : public ByteSource {
 public:
  PackedSource(PosixFile file, int64_t file_bytes, const Digest& digest,
               const PackedHeader& header)
      : file_(std::move(file)),
        file_bytes_(file_bytes),
        digest_(digest),
        header_(header) {}

  absl::Status ReadIndex();

  int64_t size() const override { return header_.size; }
  absl::Status ReadAt(int64_t offset, absl::Span<char> out) const override;

 private:
  // What one thread needs to decode; kept, as fresh memory is slow.
  struct Scratch {
    PlaneDecoder decoder;
    std::string coded;
  };
  static Scratch& ThisThreads() {
    static thread_local Scratch scratch;
    return scratch;
  }

  int64_t PlainBytes(int64_t block) const {
    return std::min(header_.block_bytes,
                    header_.size - block * header_.block_bytes);
  }
  // Reads the coded bytes of blocks from `first` on: up to `last`, and not
  // much more than kReadBytes. Returns the block after them.
  absl::StatusOr<int64_t> ReadCoded(int64_t first, int64_t last,
                                    std::string& coded) const;
  // Fills `out`, which lies in `block`, `at` bytes from its beginning.
  absl::Status Decode(int64_t block, absl::string_view coded, int64_t at,
                      absl::Span<char> out) const;
  // The same from the block that was decoded last.
  bool CopyKept(int64_t block, int64_t at, absl::Span<char> out) const;

  const PosixFile file_;
  const int64_t file_bytes_;
  const Digest digest_;
  const PackedHeader header_;
  // Where coded blocks begin, and the end; checksums of each.
  std::vector<int64_t> begins_;
  std::vector<uint32_t> crcs_;
  mutable Mutex mutex_;
  // A block of which only a part was asked for: reads that go on from there
  // find the rest.
  mutable int64_t kept_ ABSL_GUARDED_BY(mutex_) = -1;
  mutable std::string kept_bytes_ ABSL_GUARDED_BY(mutex_);
};

absl::Status PackedSource::ReadIndex() {
  std::string index(static_cast<size_t>(header_.blocks * kEntryBytes), '\0');
  CAIRN_RETURN_IF_ERROR(
      file_.ReadAt(kHeaderBytes, absl::MakeSpan(index), file_bytes_));
  if (Crc32c(index) != header_.index_crc) {
    return Damaged(digest_, "its index does not have its checksum");
  }
  int64_t begin = kHeaderBytes + static_cast<int64_t>(index.size());
  for (size_t at = 0; at < index.size(); at += kEntryBytes) {
    begins_.push_back(begin);
    begin += GetNumber<uint32_t>(index, at);
    crcs_.push_back(GetNumber<uint32_t>(index, at + 4));
  }
  begins_.push_back(begin);
  if (begin == file_bytes_) return absl::OkStatus();
  return Damaged(digest_, absl::StrCat("its file has ", file_bytes_,
                                       " bytes, its index ", begin));
}

absl::StatusOr<int64_t> PackedSource::ReadCoded(int64_t first, int64_t last,
                                                std::string& coded) const {
  const int64_t begin = begins_[static_cast<size_t>(first)];
  int64_t end_block = first + 1;
  while (end_block <= last &&
         begins_[static_cast<size_t>(end_block + 1)] - begin <= kReadBytes) {
    ++end_block;
  }
  coded.resize(
      static_cast<size_t>(begins_[static_cast<size_t>(end_block)] - begin));
  CAIRN_RETURN_IF_ERROR(
      file_.ReadAt(begin, absl::MakeSpan(coded), file_bytes_));
  return end_block;
}

bool PackedSource::CopyKept(int64_t block, int64_t at,
                            absl::Span<char> out) const {
  MutexLock lock(mutex_);
  if (kept_ != block) return false;
  std::memcpy(out.data(), kept_bytes_.data() + at, out.size());
  return true;
}

absl::Status PackedSource::Decode(int64_t block, absl::string_view coded,
                                  int64_t at, absl::Span<char> out) const {
  const auto plain = static_cast<size_t>(PlainBytes(block));
  auto where = absl::StrCat("block ", block);
  if (Crc32c(coded) != crcs_[static_cast<size_t>(block)]) {
    return Damaged(digest_, absl::StrCat(where, " does not have its checksum"));
  }
  PlaneDecoder& decoder = ThisThreads().decoder;
  if (out.size() == plain) {
    absl::Status decoded = decoder.Decode(coded, out);
    if (!decoded.ok()) {
      return Damaged(digest_, absl::StrCat(where, ": ", decoded.message()));
    }
    return decoded;
  }
  std::string whole(plain, '\0');
  absl::Status decoded = decoder.Decode(coded, absl::MakeSpan(whole));
  if (!decoded.ok()) {
    return Damaged(digest_, absl::StrCat(where, ": ", decoded.message()));
  }
  std::memcpy(out.data(), whole.data() + at, out.size());
  MutexLock lock(mutex_);
  kept_ = block;
  kept_bytes_.swap(whole);
  return absl::OkStatus();
}

absl::Status PackedSource::ReadAt(int64_t offset, absl::Span<char> out) const {
  const auto wanted = static_cast<int64_t>(out.size());
  if (offset < 0 || offset > header_.size || wanted > header_.size - offset) {
    return absl::OutOfRangeError(
        absl::StrCat("read of ", wanted, " bytes at ", offset, " of blob ",
                     digest_.hex(), " passes its end at ", header_.size));
  }
  if (out.empty()) return absl::OkStatus();
  const int64_t last = (offset + wanted - 1) / header_.block_bytes;
  std::string& coded = ThisThreads().coded;
  for (int64_t next = offset / header_.block_bytes, read_end = next,
               coded_begin = 0;
       next <= last; ++next) {
    const int64_t at = offset - next * header_.block_bytes;
    const auto part = static_cast<size_t>(
        std::min(PlainBytes(next) - at, static_cast<int64_t>(out.size())));
    if (!CopyKept(next, at, out.subspan(0, part))) {
      if (next >= read_end) {
        coded_begin = begins_[static_cast<size_t>(next)];
        CAIRN_ASSIGN_OR_RETURN(read_end, ReadCoded(next, last, coded));
      }
      const int64_t begin = begins_[static_cast<size_t>(next)];
      const int64_t end = begins_[static_cast<size_t>(next + 1)];
      CAIRN_RETURN_IF_ERROR(Decode(next,
                                   absl::string_view(coded).substr(
                                       static_cast<size_t>(begin - coded_begin),
                                       static_cast<size_t>(end - begin)),
                                   at, out.subspan(0, part)));
    }
    out.remove_prefix(part);
    offset += static_cast<int64_t>(part);
  }
  return absl::OkStatus();
}

// Codes the blocks of a source one after the other and notes their index.
class PackedFile {
 public:
  PackedFile(const ByteSource& plain, const Digest& digest, PosixFile& file)
      : plain_(plain),
        digest_(digest),
        file_(file),
        end_(kHeaderBytes +
             BlocksOf(plain.size(), kPackedBlockBytes) * kEntryBytes) {}

  // Stops, false, once it cannot become short enough.
  absl::StatusOr<bool> WriteBlocks(int width,
                                   const std::function<bool()>& go_on);
  absl::Status WriteHeader();

 private:
  const ByteSource& plain_;
  const Digest& digest_;
  PosixFile& file_;
  int64_t end_;
  std::string index_;
};

absl::StatusOr<bool> PackedFile::WriteBlocks(
    int width, const std::function<bool()>& go_on) {
  const auto end_max =
      static_cast<int64_t>(kWorthRatio * static_cast<double>(plain_.size()));
  PlaneEncoder encoder;
  Hasher hasher;
  std::string block;
  std::string coded;
  for (int64_t at = 0; at < plain_.size();) {
    if (!go_on()) return absl::CancelledError("packing was interrupted");
    coded.clear();
    const int64_t coded_begin = end_;
    // About a megabyte at a time.
    for (int i = 0; i < 16 && at < plain_.size(); ++i) {
      block.resize(
          static_cast<size_t>(std::min(kPackedBlockBytes, plain_.size() - at)));
      CAIRN_RETURN_IF_ERROR(plain_.ReadAt(at, absl::MakeSpan(block)));
      hasher.Update(block);
      const size_t before = coded.size();
      encoder.Encode(block, width, coded);
      const absl::string_view one = absl::string_view(coded).substr(before);
      PutNumber(index_, static_cast<uint32_t>(one.size()));
      PutNumber(index_, Crc32c(one));
      at += static_cast<int64_t>(block.size());
    }
    end_ += static_cast<int64_t>(coded.size());
    if (end_ > end_max) return false;
    CAIRN_RETURN_IF_ERROR(file_.WriteAt(coded_begin, coded));
    file_.StartWriteback(coded_begin, static_cast<int64_t>(coded.size()));
  }
  if (hasher.Finish() == digest_) return true;
  return Damaged(digest_, "it does not have its digest");
}

absl::Status PackedFile::WriteHeader() {
  std::string header(kMagic);
  PutNumber(header, static_cast<uint64_t>(plain_.size()));
  PutNumber(header, static_cast<uint32_t>(kPackedBlockBytes));
  PutNumber(header, static_cast<uint32_t>(static_cast<int64_t>(index_.size()) /
                                          kEntryBytes));
  header.append(reinterpret_cast<const char*>(digest_.bytes().data()),
                Digest::kBytes);
  PutNumber(header, Crc32c(index_));
  PutNumber(header, Crc32c(header));
  header.append(index_);
  return file_.WriteAt(0, header);
}

absl::Status ReadBack(const PosixFile& file, const Digest& digest,
                      const std::function<bool()>& go_on) {
  CAIRN_ASSIGN_OR_RETURN(PosixFile again, PosixFile::Open(file.path(), 0));
  CAIRN_ASSIGN_OR_RETURN(auto source, OpenPacked(std::move(again), digest));
  Hasher hasher;
  std::string tile;
  for (int64_t at = 0; at < source->size();) {
    if (!go_on()) return absl::CancelledError("packing was interrupted");
    tile.resize(static_cast<size_t>(std::min(kReadBytes, source->size() - at)));
    CAIRN_RETURN_IF_ERROR(source->ReadAt(at, absl::MakeSpan(tile)));
    hasher.Update(tile);
    at += static_cast<int64_t>(tile.size());
  }
  if (hasher.Finish() == digest) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(
      "blob ", digest.hex(), " packed does not read back; it stays plain"));
}

}  // namespace

absl::StatusOr<PackProbe> ProbePacking(const ByteSource& plain) {
  // Less is not worth a header and a probe.
  if (plain.size() < kPackedBlockBytes) return PackProbe();
  std::string sample;
  const int64_t step = (plain.size() - kProbeBytes) / (kProbes - 1) / 8 * 8;
  for (int64_t i = 0; i < kProbes; ++i) {
    std::string part(kProbeBytes, '\0');
    CAIRN_RETURN_IF_ERROR(plain.ReadAt(i * step, absl::MakeSpan(part)));
    sample += part;
  }
  PlaneEncoder encoder;
  const PlaneProbe probe = ProbePlanes(sample, encoder);
  return PackProbe{.is_worth = probe.ratio <= kWorthRatio,
                   .width = probe.width};
}

absl::StatusOr<bool> WritePacked(const ByteSource& plain, const Digest& digest,
                                 int width, const std::function<bool()>& go_on,
                                 PosixFile& out) {
  PackedFile packed(plain, digest, out);
  CAIRN_ASSIGN_OR_RETURN(bool is_worth, packed.WriteBlocks(width, go_on));
  if (!is_worth) return false;
  CAIRN_RETURN_IF_ERROR(packed.WriteHeader());
  CAIRN_RETURN_IF_ERROR(ReadBack(out, digest, go_on));
  return true;
}

absl::StatusOr<int64_t> PackedPlainSize(const PosixFile& file,
                                        const Digest& digest) {
  CAIRN_ASSIGN_OR_RETURN(int64_t file_bytes, file.Size());
  CAIRN_ASSIGN_OR_RETURN(PackedHeader header,
                         ReadHeader(file, file_bytes, digest));
  return header.size;
}

absl::StatusOr<std::unique_ptr<ByteSource>> OpenPacked(PosixFile file,
                                                       const Digest& digest) {
  CAIRN_ASSIGN_OR_RETURN(int64_t file_bytes, file.Size());
  CAIRN_ASSIGN_OR_RETURN(PackedHeader header,
                         ReadHeader(file, file_bytes, digest));
  auto source = std::make_unique<PackedSource>(std::move(file), file_bytes,
                                               digest, header);
  CAIRN_RETURN_IF_ERROR(source->ReadIndex());
  return std::unique_ptr<ByteSource>(std::move(source));
}

}  // namespace cairn
