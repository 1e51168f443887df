#include "merge/engine/checkpoint_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/release/file_policy.h"

namespace cairn {
namespace {

constexpr int64_t kCopyBytes = 1 << 20;

// Copies [begin, end) of a source to the same place of a file.
absl::Status CopyRange(const ByteSource& source, int fd,
                       const std::string& path, int64_t begin, int64_t end) {
  std::vector<char> buffer(static_cast<size_t>(
      std::min(kCopyBytes, std::max<int64_t>(end - begin, 0))));
  while (begin < end) {
    const auto count = static_cast<size_t>(
        std::min<int64_t>(end - begin, static_cast<int64_t>(buffer.size())));
    absl::Span<char> bytes(buffer.data(), count);
    CAIRN_RETURN_IF_ERROR(source.ReadAt(begin, bytes));
    CAIRN_RETURN_IF_ERROR(WriteAt(fd, begin, {bytes.data(), bytes.size()}, path));
    begin += static_cast<int64_t>(count);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<CheckpointWriter>> CheckpointWriter::Create(
    const Checkpoint& original, const std::string& directory,
    const absl::flat_hash_set<std::string>& replaced) {
  std::unique_ptr<CheckpointWriter> writer(new CheckpointWriter);
  for (const auto& [path, source] : original.files()) {
    const bool is_other_weights = absl::EndsWith(path, ".safetensors") &&
                                  !original.headers().contains(path);
    if (is_other_weights || path == kReleaseDocumentFile ||
        !CheckReleaseFile(path).ok()) {
      continue;
    }
    CAIRN_RETURN_IF_ERROR(Annotate(
        writer->AddFile(original, path, directory, replaced), "copy " + path));
  }
  return writer;
}

CheckpointWriter::~CheckpointWriter() {
  for (const auto& [path, fd] : files_) close(fd);
}

absl::Status CheckpointWriter::AddFile(
    const Checkpoint& original, const std::string& path,
    const std::string& directory,
    const absl::flat_hash_set<std::string>& replaced) {
  const std::string target = absl::StrCat(directory, "/", path);
  const std::string folder = std::filesystem::path(target).parent_path();
  CAIRN_RETURN_IF_ERROR(MakeDirectory(folder));
  const int fd =
      open(target.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return SystemError(errno, absl::StrCat("create ", target));
  files_[path] = fd;
  const ByteSource& source = *original.files().at(path);
  auto header = original.headers().find(path);
  if (header == original.headers().end()) {
    return CopyRange(source, fd, target, 0, source.size());
  }
  if (ftruncate(fd, source.size()) != 0) {
    return SystemError(errno, absl::StrCat("size ", target));
  }
  CAIRN_RETURN_IF_ERROR(
      CopyRange(source, fd, target, 0, header->second.header_bytes()));
  for (const TensorEntry& tensor : header->second.tensors()) {
    if (replaced.contains(tensor.name)) continue;
    CAIRN_RETURN_IF_ERROR(
        CopyRange(source, fd, target, tensor.begin, tensor.end));
  }
  return absl::OkStatus();
}

absl::Status CheckpointWriter::Write(const CheckpointTensor& tensor,
                                     int64_t offset,
                                     absl::Span<const char> bytes) {
  return WriteAt(files_.at(tensor.file), tensor.begin + offset,
                 {bytes.data(), bytes.size()}, tensor.file);
}

absl::Status CheckpointWriter::Finish() && {
  for (const auto& [path, fd] : files_) {
    if (fsync(fd) != 0) return SystemError(errno, "sync " + path);
  }
  return absl::OkStatus();
}

}  // namespace cairn
