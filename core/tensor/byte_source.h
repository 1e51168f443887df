#ifndef CAIRN_CORE_TENSOR_BYTE_SOURCE_H_
#define CAIRN_CORE_TENSOR_BYTE_SOURCE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace cairn {

// Bytes that can be read at any place: a file, a stored blob, memory. Readers
// of formats take one, so that the same code reads a contributor's directory
// and the hub's store. Implementations are thread-safe.
class ByteSource {
 public:
  virtual ~ByteSource() = default;

  // Size in bytes; never changes.
  virtual int64_t size() const = 0;

  // Fills `out` from `offset`. OUT_OF_RANGE when that passes the end;
  // DATA_LOSS when the bytes cannot be read.
  virtual absl::Status ReadAt(int64_t offset, absl::Span<char> out) const = 0;
};

// A file, read with pread. NOT_FOUND when there is none.
absl::StatusOr<std::unique_ptr<ByteSource>> OpenFileSource(
    const std::string& path);

// Bytes in memory, owned.
std::unique_ptr<ByteSource> MakeMemorySource(std::string bytes);

// Sources in common use by several readers (a file of a checkpoint and the
// tensors in it), hence shared.
using SharedSource = std::shared_ptr<const ByteSource>;

// The files of an update or a checkpoint by relative path.
using FileMap = std::map<std::string, SharedSource>;

// `size` bytes of `source` from `offset` on. The range lies within it.
std::unique_ptr<ByteSource> MakeSliceSource(SharedSource source, int64_t offset,
                                            int64_t size);

// The bytes of `parts`, one after the other.
std::unique_ptr<ByteSource> MakeConcatSource(std::vector<SharedSource> parts);

// The files that lie directly in a directory, by name. NOT_FOUND when there is
// no such directory.
absl::StatusOr<FileMap> OpenDirectorySources(const std::string& directory);

// Reads everything; LIMIT_EXCEEDED past `size_max` bytes. For small files.
absl::StatusOr<std::string> ReadAll(const ByteSource& source, int64_t size_max);

}  // namespace cairn

#endif  // CAIRN_CORE_TENSOR_BYTE_SOURCE_H_
