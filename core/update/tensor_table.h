#ifndef CAIRN_CORE_UPDATE_TENSOR_TABLE_H_
#define CAIRN_CORE_UPDATE_TENSOR_TABLE_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/safetensors.h"
#include "core/update/scratch_file.h"
#include "core/update/update.h"

namespace cairn {

// The table of tensors in cairn-update.safetensors and cairn-mask.safetensors;
// README.md has its form.
inline constexpr char kTensorTable[] = "cairn.tensors";
inline constexpr size_t kTableNameBytesMax = 1024;

// INVALID_ARGUMENT with reason MALFORMED_FILE about one tensor of a file.
absl::Status MalformedTensor(absl::string_view tensor, absl::string_view what,
                             absl::string_view file = kUpdateFile);

// A byte string of the file: a U8 vector. MALFORMED_FILE when it is not there.
absl::StatusOr<TensorEntry> FindByteString(
    const SafetensorsHeader& header, absl::string_view name,
    absl::string_view label = kUpdateFile);

// The table's bytes. LIMIT_EXCEEDED past kSafetensorsHeaderBytesMax.
absl::StatusOr<std::string> ReadTensorTable(
    const ByteSource& file, const TensorEntry& table,
    absl::string_view label = kUpdateFile);

// Takes records off a table, which outlives it: NextTensor(), then its numbers.
class TensorTableReader {
 public:
  explicit TensorTableReader(absl::string_view table,
                             absl::string_view label = kUpdateFile)
      : table_(table), label_(label) {}

  bool done() const { return table_.empty(); }
  // A tensor whose values can change: F32, F16 or BF16. Names ascend.
  absl::StatusOr<TensorSpec> NextTensor();
  // The next number; `field` says in errors what it is.
  absl::StatusOr<int64_t> Number(absl::string_view field);

 private:
  absl::Status CutShort(absl::string_view field) const;
  absl::StatusOr<absl::string_view> Text(absl::string_view field);
  absl::Status ReadName();

  absl::string_view table_;
  const absl::string_view label_;  // a file's name, always a constant
  std::string name_;
  int64_t tensors_ = 0;
};

// Appends records to a table.
class TensorTableWriter {
 public:
  // `tensor` comes after those before by name.
  void AddTensor(const TensorSpec& tensor);
  void AddNumber(int64_t number);
  const std::string& bytes() const { return bytes_; }
  const std::string& last_name() const { return last_name_; }

 private:
  std::string bytes_;
  std::string last_name_;
};

// A stream of a coded file, under the name of its tensor; borrowed.
using NamedStream = std::pair<const char*, ScratchFile*>;

// Writes a coded file: the table and the streams, each a vector of U8.
absl::Status WriteCodedFile(const std::string& path,
                            const TensorTableWriter& table,
                            const std::vector<NamedStream>& streams,
                            const std::map<std::string, std::string>& metadata);

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_TENSOR_TABLE_H_
