#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/update/sparse_layout.h"
#include "core/update/sparse_update.h"
#include "core/update/varint.h"

namespace cairn {
namespace {

constexpr size_t kBufferBytes = 1 << 18;

// Bytes appended to a file that has no name, and read back in order.
class ScratchFile {
 public:
  static absl::StatusOr<std::unique_ptr<ScratchFile>> Create(
      const std::string& path) {
    const int fd =
        open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return SystemError(errno, absl::StrCat("create ", path));
    unlink(path.c_str());
    return std::unique_ptr<ScratchFile>(new ScratchFile(path, fd));
  }
  ~ScratchFile() { close(fd_); }
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;

  int64_t size() const {
    return flushed_ + static_cast<int64_t>(buffer_.size());
  }

  absl::Status Append(absl::string_view bytes) {
    buffer_.append(bytes.data(), bytes.size());
    return buffer_.size() < kBufferBytes ? absl::OkStatus() : Flush();
  }

  absl::Status CopyTo(SafetensorsWriter& writer, absl::string_view tensor) {
    CAIRN_RETURN_IF_ERROR(Flush());
    buffer_.resize(kBufferBytes);
    for (int64_t offset = 0; offset < flushed_;) {
      const ssize_t got = pread(fd_, &buffer_[0], buffer_.size(), offset);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return SystemError(errno, absl::StrCat("read ", path_));
      CAIRN_RETURN_IF_ERROR(writer.Write(
          tensor, offset,
          absl::MakeConstSpan(buffer_).subspan(0, static_cast<size_t>(got))));
      offset += got;
    }
    return absl::OkStatus();
  }

 private:
  ScratchFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  absl::Status Flush() {
    size_t done = 0;
    while (done < buffer_.size()) {
      const ssize_t wrote =
          write(fd_, buffer_.data() + done, buffer_.size() - done);
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote < 0) return SystemError(errno, absl::StrCat("write ", path_));
      done += static_cast<size_t>(wrote);
    }
    flushed_ += static_cast<int64_t>(done);
    buffer_.clear();
    return absl::OkStatus();
  }

  const std::string path_;
  const int fd_;
  int64_t flushed_ = 0;
  std::string buffer_;
};

}  // namespace

struct SparseUpdateWriter::State {
  std::string path;
  std::string base_digest;
  std::unique_ptr<ScratchFile> gaps;
  std::unique_ptr<ScratchFile> values;
  std::string table;
  std::string last_name;  // of the last record in `table`
  // The tensor that changes are added to.
  TensorSpec tensor;
  int64_t count = 0;
  int64_t previous = -1;
  int64_t gaps_begin = 0;

  // Writes the tensor's record, now that its changes are known.
  void EndTensor() {
    if (count == 0) return;
    size_t shared = 0;
    const size_t most = std::min(last_name.size(), tensor.name.size());
    while (shared < most && last_name[shared] == tensor.name[shared]) ++shared;
    AppendVarint(shared, table);
    AppendVarint(tensor.name.size() - shared, table);
    table += tensor.name.substr(shared);
    const absl::string_view dtype = DTypeName(tensor.dtype);
    AppendVarint(dtype.size(), table);
    absl::StrAppend(&table, dtype);
    AppendVarint(tensor.shape.size(), table);
    for (int64_t dimension : tensor.shape) {
      AppendVarint(static_cast<uint64_t>(dimension), table);
    }
    AppendVarint(static_cast<uint64_t>(count), table);
    AppendVarint(static_cast<uint64_t>(gaps->size() - gaps_begin), table);
    last_name = tensor.name;
    count = 0;
  }
};

SparseUpdateWriter::SparseUpdateWriter(std::unique_ptr<State> state)
    : state_(std::move(state)) {}
SparseUpdateWriter::~SparseUpdateWriter() = default;

absl::StatusOr<std::unique_ptr<SparseUpdateWriter>> SparseUpdateWriter::Create(
    std::string path, std::string base_digest) {
  auto state = std::make_unique<State>();
  CAIRN_ASSIGN_OR_RETURN(state->gaps, ScratchFile::Create(path + ".gaps"));
  CAIRN_ASSIGN_OR_RETURN(state->values, ScratchFile::Create(path + ".values"));
  state->path = std::move(path);
  state->base_digest = std::move(base_digest);
  return std::unique_ptr<SparseUpdateWriter>(
      new SparseUpdateWriter(std::move(state)));
}

absl::Status SparseUpdateWriter::BeginTensor(const TensorSpec& tensor) {
  State& s = *state_;
  if (DTypeBits(tensor.dtype) % 8 != 0) {
    return absl::UnimplementedError(
        absl::StrCat("tensor ", JsonQuote(tensor.name), ": elements of ",
                     DTypeName(tensor.dtype), " cannot be replaced singly"));
  }
  if (tensor.name.empty() || tensor.name <= s.last_name ||
      tensor.name <= s.tensor.name) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor ", JsonQuote(tensor.name), " must come after ",
                     JsonQuote(s.tensor.name)));
  }
  s.EndTensor();
  s.tensor = tensor;
  s.previous = -1;
  s.gaps_begin = s.gaps->size();
  return absl::OkStatus();
}

absl::Status SparseUpdateWriter::Add(absl::Span<const int64_t> positions,
                                     absl::Span<const char> values) {
  State& s = *state_;
  const auto width = static_cast<size_t>(DTypeBits(s.tensor.dtype) / 8);
  if (s.tensor.name.empty() || values.size() != positions.size() * width) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor ", JsonQuote(s.tensor.name), ": ", positions.size(),
        " positions need ", positions.size() * width, " bytes of values, not ",
        values.size()));
  }
  const int64_t elements = s.tensor.elements();
  std::string gaps;
  for (int64_t position : positions) {
    if (position <= s.previous || position >= elements) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tensor ", JsonQuote(s.tensor.name), ": position ", position,
          " must lie after ", s.previous, " and before ", elements));
    }
    AppendVarint(static_cast<uint64_t>(position - s.previous - 1), gaps);
    s.previous = position;
  }
  s.count += static_cast<int64_t>(positions.size());
  CAIRN_RETURN_IF_ERROR(s.gaps->Append(gaps));
  return s.values->Append(absl::string_view(values.data(), values.size()));
}

absl::Status SparseUpdateWriter::Finish() && {
  State& s = *state_;
  s.EndTensor();
  if (s.table.empty()) {
    return absl::FailedPreconditionError("nothing is changed");
  }
  auto bytes = [](const char* name, int64_t size) {
    return TensorSpec{.name = name, .dtype = DType::kU8, .shape = {size}};
  };
  CAIRN_ASSIGN_OR_RETURN(
      auto writer,
      SafetensorsWriter::Create(
          s.path,
          {bytes(kSparseTable, static_cast<int64_t>(s.table.size())),
           bytes(kSparseGaps, s.gaps->size()),
           bytes(kSparseValues, s.values->size())},
          {{"cairn.format", "sparse"},
           {"cairn.version", "1"},
           {"cairn.base", s.base_digest}}));
  CAIRN_RETURN_IF_ERROR(writer->Write(kSparseTable, 0, s.table));
  CAIRN_RETURN_IF_ERROR(s.gaps->CopyTo(*writer, kSparseGaps));
  CAIRN_RETURN_IF_ERROR(s.values->CopyTo(*writer, kSparseValues));
  return std::move(*writer).Finish();
}

}  // namespace cairn
