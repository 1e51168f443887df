#ifndef CAIRN_CORE_UPDATE_SCRATCH_FILE_H_
#define CAIRN_CORE_UPDATE_SCRATCH_FILE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/tensor/safetensors.h"

namespace cairn {

// Bytes appended to a file that has no name, and read back in order, so that
// memory stays bounded. Not thread-safe.
class ScratchFile {
 public:
  // Makes `path` and takes its name away.
  static absl::StatusOr<std::unique_ptr<ScratchFile>> Create(
      const std::string& path);
  ~ScratchFile();
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;

  int64_t size() const {
    return flushed_ + static_cast<int64_t>(buffer_.size());
  }
  absl::Status Append(absl::string_view bytes);
  // Appends everything to another file; this one is empty then.
  absl::Status MoveTo(ScratchFile& other);
  // Writes everything as the bytes of a tensor.
  absl::Status CopyTo(SafetensorsWriter& writer, absl::string_view tensor);

 private:
  ScratchFile(std::string path, int fd);
  absl::Status Flush();
  // Calls visit(offset, bytes) for what was flushed, part by part.
  absl::Status ForEachPart(
      absl::FunctionRef<absl::Status(int64_t, absl::Span<const char>)> visit);

  const std::string path_;
  const int fd_;
  int64_t flushed_ = 0;
  std::string buffer_;
};

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_SCRATCH_FILE_H_
