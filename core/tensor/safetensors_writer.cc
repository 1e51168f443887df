#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/tensor/safetensors.h"

namespace cairn {
namespace {

// Makes the renaming in a directory durable.
absl::Status SyncDirectoryOf(const std::string& path) {
  std::string parent = std::filesystem::path(path).parent_path().string();
  if (parent.empty()) parent = ".";
  int fd = open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return SystemError(errno, absl::StrCat("open ", parent));
  const bool synced = fsync(fd) == 0;
  absl::Status status = synced
                            ? absl::OkStatus()
                            : SystemError(errno, absl::StrCat("sync ", parent));
  close(fd);
  return status;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(std::string path, int fd,
                                     SafetensorsLayout layout)
    : path_(std::move(path)), fd_(fd), layout_(std::move(layout)) {
  for (const TensorEntry& tensor : layout_.tensors) {
    index_[tensor.name] = index_.size();
    unwritten_ += tensor.end - tensor.begin;
  }
}

absl::StatusOr<std::unique_ptr<SafetensorsWriter>> SafetensorsWriter::Create(
    const std::string& path, std::vector<TensorSpec> tensors,
    const std::map<std::string, std::string>& metadata) {
  CAIRN_ASSIGN_OR_RETURN(SafetensorsLayout layout,
                         LayOutSafetensors(std::move(tensors), metadata));
  const std::string temporary = path + ".tmp";
  int fd =
      open(temporary.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return SystemError(errno, absl::StrCat("create ", temporary));
  std::unique_ptr<SafetensorsWriter> writer(
      new SafetensorsWriter(path, fd, std::move(layout)));
  CAIRN_RETURN_IF_ERROR(WriteAt(fd, 0, writer->layout_.header, temporary));
  return writer;
}

SafetensorsWriter::~SafetensorsWriter() {
  if (fd_ < 0) return;
  close(fd_);
  unlink((path_ + ".tmp").c_str());
}

absl::Status SafetensorsWriter::Write(absl::string_view tensor, int64_t offset,
                                      absl::Span<const char> bytes) {
  auto it = index_.find(tensor);
  if (it == index_.end()) {
    return absl::InvalidArgumentError(absl::StrCat(
        path_, " was not laid out for tensor ", JsonQuote(tensor)));
  }
  const TensorEntry& entry = layout_.tensors[it->second];
  const int64_t size = entry.end - entry.begin;
  if (offset < 0 || offset > size ||
      static_cast<uint64_t>(size - offset) < bytes.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": tensor ", JsonQuote(tensor), " has ", size,
                     " bytes; ", bytes.size(), " do not fit at ", offset));
  }
  CAIRN_RETURN_IF_ERROR(WriteAt(fd_, entry.begin + offset,
                                {bytes.data(), bytes.size()}, path_ + ".tmp"));
  unwritten_ -= static_cast<int64_t>(bytes.size());
  return absl::OkStatus();
}

absl::Status SafetensorsWriter::Finish() && {
  if (unwritten_ != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(path_, ": ", unwritten_, " bytes of tensors are missing"));
  }
  const std::string temporary = path_ + ".tmp";
  if (fsync(fd_) != 0)
    return SystemError(errno, absl::StrCat("sync ", temporary));
  if (std::rename(temporary.c_str(), path_.c_str()) != 0) {
    return SystemError(errno, absl::StrCat("rename ", temporary));
  }
  close(fd_);
  fd_ = -1;
  return SyncDirectoryOf(path_);
}

}  // namespace cairn
