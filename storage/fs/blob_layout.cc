#include "storage/fs/blob_layout.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/failpoint.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"

namespace cairn {
namespace {

constexpr absl::string_view kPart = ".part";
constexpr absl::string_view kTemporary = ".tmp";
constexpr absl::string_view kPacked = ".packed";

// Names in one directory, in no particular order.
absl::StatusOr<std::vector<std::string>> ListNames(const std::string& path) {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator it(path, error);
  for (; !error && it != std::filesystem::directory_iterator();
       it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  if (error) return FileError(error.value(), "list", path);
  return names;
}

bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

absl::StatusOr<struct statvfs> LookAtSpace(const std::string& directory) {
  struct statvfs space;
  if (statvfs(directory.c_str(), &space) == 0) return space;
  return FileError(errno, "look at the space of", directory);
}

// True when there was one.
absl::StatusOr<bool> Unlink(const std::string& path) {
  if (unlink(path.c_str()) == 0) return true;
  if (errno == ENOENT) return false;
  return FileError(errno, "remove", path);
}

}  // namespace

absl::StatusOr<int64_t> FreeBytes(const std::string& directory) {
  CAIRN_ASSIGN_OR_RETURN(auto space, LookAtSpace(directory));
  return static_cast<int64_t>(space.f_bavail) *
         static_cast<int64_t>(space.f_frsize);
}

absl::StatusOr<int64_t> DiskBytes(const std::string& directory) {
  CAIRN_ASSIGN_OR_RETURN(auto space, LookAtSpace(directory));
  return static_cast<int64_t>(space.f_blocks) *
         static_cast<int64_t>(space.f_frsize);
}

std::string BlobLayout::blobs() const {
  return absl::StrCat(directory_, "/blobs");
}
std::string BlobLayout::uploads() const {
  return absl::StrCat(directory_, "/uploads");
}
std::string BlobLayout::FanPath(uint8_t byte) const {
  return absl::StrCat(blobs(), "/", absl::Hex(byte, absl::kZeroPad2));
}
std::string BlobLayout::BlobPath(const Digest& digest, BlobForm form) const {
  return absl::StrCat(FanPath(digest.bytes()[0]), "/", digest.hex(),
                      form == BlobForm::kPacked ? kPacked : "");
}
std::string BlobLayout::PartPath(absl::string_view upload_id) const {
  return absl::StrCat(uploads(), "/", upload_id, kPart);
}

absl::Status BlobLayout::MakeDirectories() {
  CAIRN_RETURN_IF_ERROR(MakeDirectory(directory_));
  CAIRN_RETURN_IF_ERROR(MakeDirectory(blobs()));
  CAIRN_RETURN_IF_ERROR(MakeDirectory(uploads()));
  return SyncDirectory(directory_);
}

absl::StatusOr<std::vector<std::string>> BlobLayout::ListUploads() const {
  CAIRN_ASSIGN_OR_RETURN(auto names, ListNames(uploads()));
  std::vector<std::string> ids;
  for (const std::string& name : names) {
    absl::string_view id = name;
    if (absl::ConsumeSuffix(&id, kPart)) ids.emplace_back(id);
  }
  return ids;
}

absl::StatusOr<BlobFile> BlobLayout::Find(const Digest& digest) const {
  // Again from the start: one form comes before the other goes.
  for (int attempt = 0; attempt < 2; ++attempt) {
    for (BlobForm form : {BlobForm::kPlain, BlobForm::kPacked}) {
      BlobFile found{.path = BlobPath(digest, form), .form = form};
      struct stat info;
      if (stat(found.path.c_str(), &info) == 0) {
        found.file_bytes = static_cast<int64_t>(info.st_size);
        found.modified = info.st_mtim;
        return found;
      }
      if (errno != ENOENT) return FileError(errno, "stat", found.path);
    }
  }
  return absl::NotFoundError(absl::StrCat("no blob ", digest.hex()));
}

absl::StatusOr<std::vector<Digest>> BlobLayout::ListFan(uint8_t byte) const {
  auto names = ListNames(FanPath(byte));
  if (absl::IsNotFound(names.status())) return std::vector<Digest>();
  CAIRN_RETURN_IF_ERROR(names.status());
  std::vector<Digest> digests;
  for (const std::string& name : *names) {
    auto digest = Digest::Parse(absl::StripSuffix(name, kPacked));
    if (digest.ok()) digests.push_back(*digest);
  }
  std::sort(digests.begin(), digests.end());
  digests.erase(std::unique(digests.begin(), digests.end()), digests.end());
  return digests;
}

absl::Status BlobLayout::CheckSpace(int64_t bytes) const {
  if (reserve_bytes_ <= 0) return absl::OkStatus();
  CAIRN_ASSIGN_OR_RETURN(int64_t free_bytes, free_space_(directory_));
  if (free_bytes - bytes >= reserve_bytes_) return absl::OkStatus();
  return ReasonedError(
      absl::StatusCode::kResourceExhausted, "STORAGE_FULL",
      absl::StrCat("the hub's disk has ", free_bytes, " bytes left, of which ",
                   reserve_bytes_,
                   " are kept for its records: nothing more is stored until "
                   "its administrator has made room; the same command then "
                   "goes on where this one stopped"),
      {{"free_bytes", absl::StrCat(free_bytes)},
       {"reserve_bytes", absl::StrCat(reserve_bytes_)}});
}

std::string BlobLayout::NewTemporaryPath() const {
  return absl::StrCat(uploads(), "/", ToHex(RandomBytes(16)), kTemporary);
}

absl::StatusOr<PosixFile> BlobLayout::CreateTemporary() const {
  return PosixFile::Open(NewTemporaryPath(), O_RDWR | O_CREAT | O_EXCL);
}

absl::Status BlobLayout::DropTemporary() const {
  CAIRN_ASSIGN_OR_RETURN(auto names, ListNames(uploads()));
  for (const std::string& name : names) {
    if (!absl::EndsWith(name, kTemporary)) continue;
    (void)unlink(absl::StrCat(uploads(), "/", name).c_str());
  }
  return absl::OkStatus();
}

absl::Status BlobLayout::MakeFan(uint8_t byte) const {
  const std::string fan = FanPath(byte);
  if (mkdir(fan.c_str(), 0755) == 0) return SyncDirectory(blobs());
  if (errno == EEXIST) return absl::OkStatus();
  return FileError(errno, "make directory", fan);
}

absl::Status BlobLayout::Name(PosixFile& file, const std::string& path,
                              const Digest& digest, BlobForm form) {
  // Not to be removed as old between its time and its name.
  MutexLock lock(LockOf(digest));
  CAIRN_RETURN_IF_ERROR(file.SetModifiedNow());
  const std::string name = BlobPath(digest, form);
  if (rename(path.c_str(), name.c_str()) != 0) {
    return FileError(errno, "store blob as", name);
  }
  return absl::OkStatus();
}

absl::Status BlobLayout::PublishAs(PosixFile& file, const std::string& path,
                                   const Digest& digest) {
  CAIRN_RETURN_IF_ERROR(MakeFan(digest.bytes()[0]));
  CAIRN_RETURN_IF_ERROR(file.SyncAll());
  CAIRN_RETURN_IF_ERROR(Name(file, path, digest, BlobForm::kPlain));
  CAIRN_RETURN_IF_ERROR(SyncDirectory(FanPath(digest.bytes()[0])));
  MutexLock lock(LockOf(digest));
  if (!Exists(BlobPath(digest))) return absl::OkStatus();
  return Unlink(BlobPath(digest, BlobForm::kPacked)).status();
}

absl::Status BlobLayout::Publish(PosixFile& file, const Digest& digest) {
  return PublishAs(file, file.path(), digest);
}

absl::Status BlobLayout::PublishUpload(PosixFile& file, const Digest& digest) {
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

absl::Status BlobLayout::PublishUnsynced(PosixFile& file, const Digest& digest,
                                         BlobForm form) {
  CAIRN_RETURN_IF_ERROR(MakeFan(digest.bytes()[0]));
  return Name(file, file.path(), digest, form);
}

absl::Status BlobLayout::ReplaceByPacked(PosixFile& file,
                                         const Digest& digest) {
  const std::string plain = BlobPath(digest);
  const std::string packed = BlobPath(digest, BlobForm::kPacked);
  CAIRN_RETURN_IF_ERROR(file.SyncAll());
  CAIRN_RETURN_IF_ERROR(Failpoint("pack.written"));
  {
    MutexLock lock(LockOf(digest));
    CAIRN_ASSIGN_OR_RETURN(PosixFile old, PosixFile::Open(plain, O_RDONLY));
    CAIRN_ASSIGN_OR_RETURN(timespec modified, old.Modified());
    CAIRN_RETURN_IF_ERROR(file.SetModified(modified));
    if (rename(file.path().c_str(), packed.c_str()) != 0) {
      return FileError(errno, "store blob as", packed);
    }
  }
  CAIRN_RETURN_IF_ERROR(SyncDirectory(FanPath(digest.bytes()[0])));
  CAIRN_RETURN_IF_ERROR(Failpoint("pack.named"));
  MutexLock lock(LockOf(digest));
  auto old = PosixFile::Open(plain, O_RDONLY);
  if (absl::IsNotFound(old.status()) || !Exists(packed)) {
    return absl::OkStatus();
  }
  CAIRN_RETURN_IF_ERROR(old.status());
  // It may have been touched meanwhile.
  CAIRN_ASSIGN_OR_RETURN(timespec modified, old->Modified());
  CAIRN_RETURN_IF_ERROR(file.SetModified(modified));
  return Unlink(plain).status();
}

absl::StatusOr<bool> BlobLayout::RemoveLocked(const Digest& digest) const {
  CAIRN_ASSIGN_OR_RETURN(bool was_plain, Unlink(BlobPath(digest)));
  CAIRN_ASSIGN_OR_RETURN(bool was_packed,
                         Unlink(BlobPath(digest, BlobForm::kPacked)));
  return was_plain || was_packed;
}

absl::Status BlobLayout::SyncFileSystem() const {
  CAIRN_ASSIGN_OR_RETURN(PosixFile directory,
                         PosixFile::Open(directory_, O_RDONLY | O_DIRECTORY));
  return directory.SyncFileSystem();
}

}  // namespace cairn
