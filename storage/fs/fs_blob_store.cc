#include "storage/fs/fs_blob_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "storage/fs/posix_file.h"

namespace cairn {
namespace {

namespace stdfs = std::filesystem;

constexpr absl::string_view kPart = ".part";
constexpr absl::string_view kTemporary = ".tmp";
constexpr size_t kCopyBytes = 1 << 20;

absl::Status NoBlob(const Digest& digest) {
  return absl::NotFoundError(absl::StrCat("no blob ", digest.hex()));
}

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

// Names in one directory, in no particular order.
absl::StatusOr<std::vector<std::string>> ListNames(const std::string& path) {
  std::vector<std::string> names;
  std::error_code error;
  stdfs::directory_iterator it(path, error);
  for (; !error && it != stdfs::directory_iterator(); it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  if (error) return FileError(error.value(), "list", path);
  return names;
}

}  // namespace

class FsBlobStore::Layout {
 public:
  explicit Layout(std::string directory) : directory_(std::move(directory)) {}

  std::string blobs() const { return absl::StrCat(directory_, "/blobs"); }
  std::string uploads() const { return absl::StrCat(directory_, "/uploads"); }
  std::string BlobPath(const Digest& digest) const {
    return absl::StrCat(FanPath(digest.bytes()[0]), "/", digest.hex());
  }
  // The directory of the blobs whose digest begins with `byte`.
  std::string FanPath(uint8_t byte) const {
    return absl::StrCat(blobs(), "/", absl::Hex(byte, absl::kZeroPad2));
  }
  std::string PartPath(absl::string_view id) const {
    return absl::StrCat(uploads(), "/", id, kPart);
  }

  absl::Status MakeDirectories() {
    CAIRN_RETURN_IF_ERROR(MakeDirectory(blobs()));
    CAIRN_RETURN_IF_ERROR(MakeDirectory(uploads()));
    return SyncDirectory(directory_);
  }

  // Syncs a temporary file and gives it the name of the blob whose bytes it
  // holds. A file of that name is replaced by its equal, which also heals it.
  absl::Status Publish(PosixFile& file, const Digest& digest) {
    return PublishAs(file, file.path(), digest);
  }

  // The same for an upload, which keeps its own name, too.
  absl::Status PublishUpload(PosixFile& file, const Digest& digest) {
    const std::string second = NewTemporaryPath();
    if (link(file.path().c_str(), second.c_str()) != 0) {
      return FileError(errno, "link", file.path());
    }
    absl::Status published = PublishAs(file, second, digest);
    // Left over also by a rename() onto a link of the same file, which does
    // nothing.
    (void)unlink(second.c_str());
    return published;
  }

  std::string NewTemporaryPath() const {
    return absl::StrCat(uploads(), "/", ToHex(RandomBytes(16)), kTemporary);
  }

  // Held while a blob gets its name or time, and while one is removed for
  // being old: the two must not interleave.
  Mutex& LockOf(const Digest& digest) {
    return locks_[digest.bytes()[0] % locks_.size()];
  }

 private:
  absl::Status PublishAs(PosixFile& file, const std::string& path,
                         const Digest& digest) {
    const std::string fan = FanPath(digest.bytes()[0]);
    if (mkdir(fan.c_str(), 0755) == 0) {
      CAIRN_RETURN_IF_ERROR(SyncDirectory(blobs()));
    } else if (errno != EEXIST) {
      return FileError(errno, "make directory", fan);
    }
    CAIRN_RETURN_IF_ERROR(file.SyncAll());
    {
      // Not to be removed as old between its time and its name.
      MutexLock lock(LockOf(digest));
      CAIRN_RETURN_IF_ERROR(file.SetModifiedNow());
      if (rename(path.c_str(), BlobPath(digest).c_str()) != 0) {
        return FileError(errno, "store blob as", BlobPath(digest));
      }
    }
    return SyncDirectory(fan);
  }

  const std::string directory_;
  std::array<Mutex, 64> locks_;
};

class FsBlobWriter : public BlobWriter {
 public:
  // `size`: bytes there already, which are hashed when the upload ends.
  FsBlobWriter(std::shared_ptr<FsBlobStore::Layout> layout, PosixFile file,
               int64_t size)
      : layout_(std::move(layout)), file_(std::move(file)), size_(size) {}

  absl::Status Append(absl::string_view bytes) override {
    CAIRN_RETURN_IF_ERROR(file_.WriteAt(size_, bytes));
    const auto added = static_cast<int64_t>(bytes.size());
    file_.StartWriteback(size_, added);
    if (hashed_ == size_) {
      hasher_.Update(bytes);
      hashed_ += added;
    }
    size_ += added;
    return absl::OkStatus();
  }

  absl::StatusOr<int64_t> Sync() override {
    CAIRN_RETURN_IF_ERROR(file_.SyncBytes());
    return size_;
  }

  int64_t size() const override { return size_; }

  absl::Status ReadBack(int64_t offset, absl::Span<char> out) const override {
    return file_.ReadAt(offset, out, size_);
  }

  absl::Status Commit(const Digest& digest) && override {
    CAIRN_RETURN_IF_ERROR(HashRest());
    Digest actual = hasher_.Finish();
    if (actual != digest) {
      return absl::InvalidArgumentError(
          absl::StrCat("the bytes hash to ", actual.hex(), ", not to ",
                       digest.hex(), ": send them again"));
    }
    return layout_->PublishUpload(file_, digest);
  }

 private:
  absl::Status HashRest() {
    std::string buffer;
    while (hashed_ < size_) {
      buffer.resize(
          static_cast<size_t>(std::min<int64_t>(kCopyBytes, size_ - hashed_)));
      CAIRN_RETURN_IF_ERROR(ReadBack(hashed_, absl::MakeSpan(buffer)));
      hasher_.Update(buffer);
      hashed_ += static_cast<int64_t>(buffer.size());
    }
    return absl::OkStatus();
  }

  const std::shared_ptr<FsBlobStore::Layout> layout_;
  PosixFile file_;
  int64_t size_;
  // Covers the first `hashed_` bytes: all of them, unless resumed.
  Hasher hasher_;
  int64_t hashed_ = 0;
};

FsBlobStore::FsBlobStore(std::shared_ptr<Layout> layout)
    : layout_(std::move(layout)) {}

absl::StatusOr<std::unique_ptr<FsBlobStore>> FsBlobStore::Open(
    const std::string& directory) {
  auto layout = std::make_shared<Layout>(directory);
  CAIRN_RETURN_IF_ERROR(MakeDirectory(directory));
  CAIRN_RETURN_IF_ERROR(layout->MakeDirectories());
  CAIRN_ASSIGN_OR_RETURN(auto names, ListNames(layout->uploads()));
  for (const std::string& name : names) {
    if (!absl::EndsWith(name, kTemporary)) continue;
    (void)unlink(absl::StrCat(layout->uploads(), "/", name).c_str());
  }
  return std::unique_ptr<FsBlobStore>(new FsBlobStore(std::move(layout)));
}

absl::StatusOr<BlobStat> FsBlobStore::Stat(const Digest& digest) const {
  const std::string path = layout_->BlobPath(digest);
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) return NoBlob(digest);
    return FileError(errno, "stat", path);
  }
  return BlobStat{.digest = digest,
                  .size_bytes = static_cast<int64_t>(info.st_size),
                  .stored_at = absl::TimeFromTimespec(info.st_mtim)};
}

absl::StatusOr<std::unique_ptr<ByteSource>> FsBlobStore::Open(
    const Digest& digest) const {
  auto file = PosixFile::Open(layout_->BlobPath(digest), O_RDONLY);
  if (absl::IsNotFound(file.status())) return NoBlob(digest);
  CAIRN_RETURN_IF_ERROR(file.status());
  CAIRN_ASSIGN_OR_RETURN(int64_t size, file->Size());
  return std::make_unique<FsSource>(*std::move(file), size);
}

absl::StatusOr<std::unique_ptr<BlobWriter>> FsBlobStore::Begin(
    absl::string_view upload_id) {
  if (!IsUploadId(upload_id)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", upload_id, "\" is not an upload id"));
  }
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
  const std::string path = layout_->NewTemporaryPath();
  CAIRN_ASSIGN_OR_RETURN(PosixFile file,
                         PosixFile::Open(path, O_RDWR | O_CREAT | O_EXCL));
  absl::Status status = file.WriteAt(0, bytes);
  if (status.ok()) status = layout_->Publish(file, digest);
  if (!status.ok()) {
    (void)unlink(path.c_str());
    return status;
  }
  return digest;
}

absl::Status FsBlobStore::Touch(const Digest& digest) {
  const std::string path = layout_->BlobPath(digest);
  MutexLock lock(layout_->LockOf(digest));
  const timespec times[2] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT},
                             {.tv_sec = 0, .tv_nsec = UTIME_NOW}};
  if (utimensat(AT_FDCWD, path.c_str(), times, 0) != 0) {
    if (errno == ENOENT) return NoBlob(digest);
    return FileError(errno, "touch", path);
  }
  return absl::OkStatus();
}

absl::Status FsBlobStore::Remove(const Digest& digest) {
  const std::string path = layout_->BlobPath(digest);
  if (unlink(path.c_str()) != 0 && errno != ENOENT) {
    return FileError(errno, "remove", path);
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> FsBlobStore::RemoveIfOlder(const Digest& digest,
                                                absl::Time cutoff) {
  MutexLock lock(layout_->LockOf(digest));
  auto found = Stat(digest);
  if (absl::IsNotFound(found.status())) return false;
  CAIRN_RETURN_IF_ERROR(found.status());
  if (found->stored_at >= cutoff) return false;
  CAIRN_RETURN_IF_ERROR(Remove(digest));
  return true;
}

absl::Status FsBlobStore::List(
    const std::function<bool(const BlobStat&)>& visit) const {
  for (int byte = 0; byte < 256; ++byte) {
    auto names = ListNames(layout_->FanPath(static_cast<uint8_t>(byte)));
    if (absl::IsNotFound(names.status())) continue;  // none yet
    CAIRN_RETURN_IF_ERROR(names.status());
    for (const std::string& name : *names) {
      auto digest = Digest::Parse(name);
      if (!digest.ok()) continue;
      auto stat = Stat(*digest);
      if (absl::IsNotFound(stat.status())) continue;  // removed meanwhile
      CAIRN_RETURN_IF_ERROR(stat.status());
      if (!visit(*stat)) return absl::OkStatus();
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> FsBlobStore::ListUploads() const {
  CAIRN_ASSIGN_OR_RETURN(auto names, ListNames(layout_->uploads()));
  std::vector<std::string> ids;
  for (const std::string& name : names) {
    absl::string_view id = name;
    if (absl::ConsumeSuffix(&id, kPart)) ids.emplace_back(id);
  }
  return ids;
}

}  // namespace cairn
