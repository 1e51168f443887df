#include "storage/fs/fs_blob_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "core/base/direct_write.h"
#include "core/base/status_macros.h"
#include "storage/fs/fs_blob_writer.h"
#include "storage/fs/packed_blob.h"
#include "storage/fs/posix_file.h"

namespace cairn {
namespace {

constexpr int64_t kTileBytes = 1 << 20;

class FsSource : public ByteSource {
 public:
  FsSource(PosixFile file, int64_t size)
      : file_(std::move(file)), size_(size) {}

  int64_t size() const override { return size_; }
  absl::Status ReadAt(int64_t offset, absl::Span<char> out) const override {
    return file_.ReadAt(offset, out, size_);
  }

 private:
  const PosixFile file_;
  const int64_t size_;
};

// Opens a blob's file; looks for it again when its form has just changed.
absl::StatusOr<PosixFile> OpenFound(const BlobLayout& layout,
                                    const Digest& digest, BlobFile& found) {
  auto file = PosixFile::Open(found.path, O_RDONLY);
  if (!absl::IsNotFound(file.status())) return file;
  CAIRN_ASSIGN_OR_RETURN(found, layout.Find(digest));
  return PosixFile::Open(found.path, O_RDONLY);
}

}  // namespace

absl::StatusOr<std::unique_ptr<FsBlobStore>> FsBlobStore::Open(
    const std::string& directory, Options options) {
  auto layout = std::make_shared<BlobLayout>(directory, options.reserve_bytes,
                                             std::move(options.free_space));
  CAIRN_RETURN_IF_ERROR(layout->MakeDirectories());
  CAIRN_RETURN_IF_ERROR(layout->DropTemporary());
  return std::unique_ptr<FsBlobStore>(new FsBlobStore(std::move(layout)));
}

absl::StatusOr<BlobStat> FsBlobStore::Describe(const Digest& digest,
                                               const BlobFile& file) const {
  BlobStat stat{.digest = digest,
                .size_bytes = file.file_bytes,
                .stored_bytes = file.file_bytes,
                .stored_at = absl::TimeFromTimespec(file.modified)};
  if (file.form == BlobForm::kPlain) return stat;
  CAIRN_ASSIGN_OR_RETURN(PosixFile packed,
                         PosixFile::Open(file.path, O_RDONLY));
  CAIRN_ASSIGN_OR_RETURN(stat.size_bytes, PackedPlainSize(packed, digest));
  return stat;
}

absl::StatusOr<BlobStat> FsBlobStore::Stat(const Digest& digest) const {
  CAIRN_ASSIGN_OR_RETURN(BlobFile file, layout_->Find(digest));
  return Describe(digest, file);
}

absl::StatusOr<std::unique_ptr<ByteSource>> FsBlobStore::Open(
    const Digest& digest) const {
  CAIRN_ASSIGN_OR_RETURN(BlobFile found, layout_->Find(digest));
  CAIRN_ASSIGN_OR_RETURN(PosixFile file, OpenFound(*layout_, digest, found));
  if (found.form == BlobForm::kPacked) {
    return OpenPacked(std::move(file), digest);
  }
  CAIRN_ASSIGN_OR_RETURN(int64_t size, file.Size());
  return std::make_unique<FsSource>(std::move(file), size);
}

absl::StatusOr<std::unique_ptr<BlobWriter>> FsBlobStore::Begin(
    absl::string_view upload_id) {
  if (!IsUploadId(upload_id)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", upload_id, "\" is not an upload id"));
  }
  CAIRN_RETURN_IF_ERROR(layout_->CheckSpace(0));
  CAIRN_ASSIGN_OR_RETURN(
      PosixFile file,
      PosixFile::Open(layout_->PartPath(upload_id), O_RDWR | O_CREAT | O_EXCL));
  CAIRN_RETURN_IF_ERROR(SyncDirectory(layout_->uploads()));
  return std::make_unique<FsBlobWriter>(layout_, std::move(file), 0);
}

absl::StatusOr<std::unique_ptr<BlobWriter>> FsBlobStore::Resume(
    absl::string_view upload_id) {
  absl::Status unknown =
      absl::NotFoundError(absl::StrCat("no upload ", upload_id));
  if (!IsUploadId(upload_id)) return unknown;
  auto file = PosixFile::Open(layout_->PartPath(upload_id), O_RDWR);
  if (absl::IsNotFound(file.status())) return unknown;
  CAIRN_RETURN_IF_ERROR(file.status());
  // What an ended process appended is in the file, if not yet on the disk;
  // after this it is.
  CAIRN_RETURN_IF_ERROR(file->SyncBytes());
  CAIRN_ASSIGN_OR_RETURN(int64_t size, file->Size());
  return std::make_unique<FsBlobWriter>(layout_, *std::move(file), size);
}

absl::Status FsBlobStore::Abandon(absl::string_view upload_id) {
  if (!IsUploadId(upload_id)) return absl::OkStatus();
  const std::string path = layout_->PartPath(upload_id);
  if (unlink(path.c_str()) != 0 && errno != ENOENT) {
    return FileError(errno, "remove", path);
  }
  return absl::OkStatus();
}

absl::StatusOr<Digest> FsBlobStore::Put(absl::string_view bytes) {
  const Digest digest = Digest::Of(bytes);
  auto stored = Stat(digest);
  if (stored.ok() && stored->size_bytes == static_cast<int64_t>(bytes.size()) &&
      Touch(digest).ok()) {
    return digest;
  }
  CAIRN_RETURN_IF_ERROR(
      layout_->CheckSpace(static_cast<int64_t>(bytes.size())));
  CAIRN_ASSIGN_OR_RETURN(PosixFile file, layout_->CreateTemporary());
  absl::Status status = file.WriteAt(0, bytes);
  if (status.ok()) status = layout_->Publish(file, digest);
  if (!status.ok()) {
    (void)unlink(file.path().c_str());
    return status;
  }
  return digest;
}

absl::StatusOr<Digest> FsBlobStore::PutFrom(const ByteSource& source,
                                            FileHasher* whole) {
  CAIRN_ASSIGN_OR_RETURN(PosixFile file, layout_->CreateTemporary());
  // In vain once it has its name.
  absl::Cleanup drop = [&] { (void)unlink(file.path().c_str()); };
  WrittenFile written{.name = file.path(), .fd = file.fd()};
  if (source.size() >= kTileBytes) written.direct_fd = OpenDirect(file.path());
  LaneHasher hasher;
  const auto tile_bytes = static_cast<size_t>(kTileBytes);
  const PageBuffer tile = MakePageBuffer(tile_bytes);
  for (int64_t at = 0; at < source.size();) {
    const int64_t size = std::min(kTileBytes, source.size() - at);
    const absl::Span<char> bytes(tile.get(), static_cast<size_t>(size));
    CAIRN_RETURN_IF_ERROR(source.ReadAt(at, bytes));
    CAIRN_RETURN_IF_ERROR(layout_->CheckSpace(size));
    CAIRN_RETURN_IF_ERROR(BeforeWrite());
    CAIRN_RETURN_IF_ERROR(
        WriteDirect(written, at, {tile.get(), tile_bytes}, 0, bytes.size()));
    const absl::string_view view(bytes.data(), bytes.size());
    if (whole == nullptr) {
      hasher.Update(view);
    } else {
      whole->UpdateBeside(hasher, view);
    }
    at += size;
  }
  const Digest digest = hasher.Finish();
  CAIRN_RETURN_IF_ERROR(layout_->Publish(file, digest));
  return digest;
}

absl::Status FsBlobStore::Touch(const Digest& digest) {
  MutexLock lock(layout_->LockOf(digest));
  CAIRN_ASSIGN_OR_RETURN(BlobFile file, layout_->Find(digest));
  const timespec times[2] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT},
                             {.tv_sec = 0, .tv_nsec = UTIME_NOW}};
  if (utimensat(AT_FDCWD, file.path.c_str(), times, 0) != 0) {
    return FileError(errno, "touch", file.path);
  }
  return absl::OkStatus();
}

absl::Status FsBlobStore::Remove(const Digest& digest) {
  MutexLock lock(layout_->LockOf(digest));
  return layout_->RemoveLocked(digest).status();
}

absl::StatusOr<bool> FsBlobStore::RemoveIfOlder(const Digest& digest,
                                                absl::Time cutoff) {
  MutexLock lock(layout_->LockOf(digest));
  auto found = layout_->Find(digest);
  if (absl::IsNotFound(found.status())) return false;
  CAIRN_RETURN_IF_ERROR(found.status());
  if (absl::TimeFromTimespec(found->modified) >= cutoff) return false;
  return layout_->RemoveLocked(digest);
}

absl::Status FsBlobStore::ListFrom(
    const Digest& first,
    const std::function<bool(const BlobStat&)>& visit) const {
  for (int byte = first.bytes()[0]; byte < 256; ++byte) {
    CAIRN_ASSIGN_OR_RETURN(auto digests,
                           layout_->ListFan(static_cast<uint8_t>(byte)));
    for (const Digest& digest : digests) {
      if (digest < first) continue;
      auto file = layout_->Find(digest);
      if (absl::IsNotFound(file.status())) continue;  // removed meanwhile
      CAIRN_RETURN_IF_ERROR(file.status());
      auto stat = Describe(digest, *file);
      if (absl::IsNotFound(stat.status())) stat = Stat(digest);
      if (absl::IsNotFound(stat.status())) continue;
      // Still a blob: whoever reads it hears of the damage.
      if (absl::IsDataLoss(stat.status())) {
        stat = BlobStat{.digest = digest,
                        .size_bytes = file->file_bytes,
                        .stored_bytes = file->file_bytes,
                        .stored_at = absl::TimeFromTimespec(file->modified)};
      }
      CAIRN_RETURN_IF_ERROR(stat.status());
      if (!visit(*stat)) return absl::OkStatus();
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> FsBlobStore::ListUploads() const {
  return layout_->ListUploads();
}

absl::StatusOr<PackOutcome> FsBlobStore::Pack(
    const Digest& digest, const std::function<bool()>& go_on) {
  CAIRN_ASSIGN_OR_RETURN(BlobFile found, layout_->Find(digest));
  PackOutcome outcome{.is_packed = found.form == BlobForm::kPacked};
  if (outcome.is_packed) return outcome;
  CAIRN_ASSIGN_OR_RETURN(PosixFile file, PosixFile::Open(found.path, O_RDONLY));
  const FsSource plain(std::move(file), found.file_bytes);
  CAIRN_ASSIGN_OR_RETURN(PackProbe probe, ProbePacking(plain));
  if (!probe.is_worth) return outcome;
  CAIRN_RETURN_IF_ERROR(layout_->CheckSpace(plain.size()));
  CAIRN_ASSIGN_OR_RETURN(PosixFile packed, layout_->CreateTemporary());
  // In vain once it has its name.
  absl::Cleanup drop = [&] { (void)unlink(packed.path().c_str()); };
  outcome.read_bytes = plain.size();
  CAIRN_ASSIGN_OR_RETURN(
      bool is_worth, WritePacked(plain, digest, probe.width, go_on, packed));
  if (!is_worth) return outcome;
  CAIRN_RETURN_IF_ERROR(layout_->ReplaceByPacked(packed, digest));
  outcome.is_packed = true;
  return outcome;
}

absl::Status FsBlobStore::TakeFrom(const FsBlobStore& other,
                                   const Digest& digest, Transfer how) {
  CAIRN_ASSIGN_OR_RETURN(BlobFile found, other.layout_->Find(digest));
  const std::string& from = found.path;
  CAIRN_ASSIGN_OR_RETURN(PosixFile source, PosixFile::Open(from, O_RDONLY));
  CAIRN_ASSIGN_OR_RETURN(PosixFile file, layout_->CreateTemporary());
  absl::Status taken;
  if (how == Transfer::kCopy) {
    taken = layout_->CheckSpace(found.file_bytes);
    if (taken.ok()) taken = file.CopyFrom(source, found.file_bytes);
  } else if (unlink(file.path().c_str()) != 0 ||
             link(from.c_str(), file.path().c_str()) != 0) {
    taken = errno == EXDEV ? absl::FailedPreconditionError(absl::StrCat(
                                 from, " is on another file system than ",
                                 layout_->directory(), ": copy it"))
                           : FileError(errno, "link", from);
  }
  if (taken.ok()) taken = layout_->PublishUnsynced(file, digest, found.form);
  // Left over also by a rename onto a link of the same file.
  (void)unlink(file.path().c_str());
  return taken;
}

absl::Status FsBlobStore::SyncFileSystem() const {
  return layout_->SyncFileSystem();
}

}  // namespace cairn
