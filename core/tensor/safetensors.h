#ifndef CAIRN_CORE_TENSOR_SAFETENSORS_H_
#define CAIRN_CORE_TENSOR_SAFETENSORS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/dtype.h"

namespace cairn {

inline constexpr int64_t kSafetensorsHeaderBytesMax = 16 << 20;
inline constexpr int64_t kSafetensorsTensorsMax = 100'000;

// A tensor's name and type.
struct TensorSpec {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  // outermost first; empty for a scalar

  int64_t elements() const;
  // Packed size. Only for specs that are valid (see PackedBytes).
  int64_t size_bytes() const;
};

// "[4, 16]"
std::string ShapeText(absl::Span<const int64_t> shape);

// A tensor in a file: `begin` and `end` count from the file's first byte.
struct TensorEntry : TensorSpec {
  int64_t begin = 0;
  int64_t end = 0;
};

// The checked header of a safetensors file. Every rule of the format holds:
// tensors lie back to back in offset order without holes or overlap, each as
// long as its dtype and shape say, and the last ends with the file; JSON keys
// are unique, no key is unknown. Our limits are the two constants above.
// Errors are INVALID_ARGUMENT with reason MALFORMED_FILE or LIMIT_EXCEEDED;
// they name `label` (the file) and the tensor.
class SafetensorsHeader {
 public:
  // Reads the header of a whole file.
  static absl::StatusOr<SafetensorsHeader> Read(const ByteSource& file,
                                                absl::string_view label);
  // From the bytes of the header alone (8 + N) and the size of the file that
  // it stands in.
  static absl::StatusOr<SafetensorsHeader> Parse(absl::string_view header,
                                                 int64_t file_size,
                                                 absl::string_view label);

  // In the order of their bytes.
  const std::vector<TensorEntry>& tensors() const { return tensors_; }
  // Null when there is none of that name. Valid while this header lives.
  const TensorEntry* Find(absl::string_view name) const;
  // The strings of "__metadata__".
  const std::map<std::string, std::string>& metadata() const {
    return metadata_;
  }
  // Length of the header, its 8-byte count included: where tensors begin.
  int64_t header_bytes() const { return header_bytes_; }

 private:
  std::vector<TensorEntry> tensors_;
  absl::flat_hash_map<std::string, size_t> index_;
  std::map<std::string, std::string> metadata_;
  int64_t header_bytes_ = 0;
};

// A header as the reference library writes it.
struct SafetensorsLayout {
  std::string header;                // 8 + N bytes
  std::vector<TensorEntry> tensors;  // in the order of their bytes
  int64_t file_bytes = 0;
};

// Lays tensors out in the reference writer's order (widest dtype first, then
// by name) with its padding. INVALID_ARGUMENT for two tensors of one name, a
// name "__metadata__" or a shape that cannot be packed.
absl::StatusOr<SafetensorsLayout> LayOutSafetensors(
    std::vector<TensorSpec> tensors,
    const std::map<std::string, std::string>& metadata);

// Writes a safetensors file; tensors may be filled in any order. The file has
// its name only once it is complete and durable. Not thread-safe.
class SafetensorsWriter {
 public:
  // Writes the header to `path` + ".tmp".
  static absl::StatusOr<std::unique_ptr<SafetensorsWriter>> Create(
      const std::string& path, std::vector<TensorSpec> tensors,
      const std::map<std::string, std::string>& metadata);
  // Removes what was not finished.
  ~SafetensorsWriter();
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  // In the order of their bytes in the file.
  const std::vector<TensorEntry>& tensors() const { return layout_.tensors; }
  // Writes bytes of a tensor from `offset` of its packed bytes on. Each byte
  // is to be written once. INVALID_ARGUMENT past the tensor's end.
  absl::Status Write(absl::string_view tensor, int64_t offset,
                     absl::Span<const char> bytes);
  // Syncs and gives the file its name. FAILED_PRECONDITION when fewer or more
  // bytes were written than the tensors have.
  absl::Status Finish() &&;

 private:
  SafetensorsWriter(std::string path, int fd, SafetensorsLayout layout);

  std::string path_;
  int fd_;
  SafetensorsLayout layout_;
  absl::flat_hash_map<std::string, size_t> index_;
  int64_t unwritten_ = 0;
};

}  // namespace cairn

#endif  // CAIRN_CORE_TENSOR_SAFETENSORS_H_
