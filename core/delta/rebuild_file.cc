#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/mutex.h"
#include "core/base/status_macros.h"
#include "core/delta/delta_pack.h"
#include "core/delta/delta_pack_form.h"

namespace cairn {
namespace {

struct Piece {
  const TensorEntry* tensor;
  int64_t number;
};

class Rebuild {
 public:
  Rebuild(const DeltaPack& delta, const SafetensorsHeader& header,
          const Checkpoint& from, int fd, const std::string& out,
          const RebuildProgress& progress)
      : delta_(delta), from_(from), fd_(fd), out_(out), progress_(progress) {
    for (const TensorEntry& tensor : header.tensors()) {
      const int64_t pieces = DeltaPieces(tensor.end - tensor.begin);
      for (int64_t p = 0; p < pieces; ++p) pieces_.push_back({&tensor, p});
    }
  }

  absl::Status Run(int threads) {
    {
      std::vector<std::jthread> others;
      for (int i = 1; i < threads; ++i) others.emplace_back([this] { Work(); });
      Work();
    }
    MutexLock lock(mutex_);
    return failure_;
  }

  std::vector<TensorEntry> TakeMissing() {
    std::vector<TensorEntry> missing;
    MutexLock lock(mutex_);
    for (const TensorEntry* tensor : missing_) missing.push_back(*tensor);
    return missing;
  }

 private:
  void Work() {
    std::string base, made, coded;
    DeltaDecoder decoder;
    while (true) {
      const size_t next = next_++;
      if (next >= pieces_.size()) return;
      const Piece& piece = pieces_[next];
      const int64_t begin = piece.number * kDeltaPieceBytes;
      const auto bytes = static_cast<size_t>(std::min(
          kDeltaPieceBytes, piece.tensor->end - piece.tensor->begin - begin));
      base.resize(bytes);
      made.resize(bytes);
      if (Make(piece, begin, decoder, base, made, coded).ok()) {
        absl::Status written = Write(piece.tensor->begin + begin, made);
        if (!written.ok()) return Fail(std::move(written));
      } else {
        MutexLock lock(mutex_);
        missing_.insert(piece.tensor);
      }
      if (progress_) progress_(static_cast<int64_t>(bytes));
    }
  }

  absl::Status Make(const Piece& piece, int64_t begin, DeltaDecoder& decoder,
                    std::string& base, std::string& made,
                    std::string& coded) const {
    const TensorEntry& tensor = *piece.tensor;
    const v1::DeltaTensor* change = delta_.Find(tensor.name);
    if (change != nullptr && change->is_new()) {
      std::fill(base.begin(), base.end(), '\0');
    } else {
      const CheckpointTensor* before = from_.Find(tensor.name);
      if (before == nullptr || before->dtype != tensor.dtype ||
          before->shape != tensor.shape) {
        return absl::NotFoundError(tensor.name);
      }
      CAIRN_RETURN_IF_ERROR(
          from_.ReadBytes(tensor.name, begin, absl::MakeSpan(base)));
    }
    if (change == nullptr) {
      made.swap(base);
      return absl::OkStatus();
    }
    return delta_.DecodePiece(*change, piece.number, tensor.dtype, base,
                              absl::MakeSpan(made), decoder, coded);
  }

  absl::Status Write(int64_t offset, absl::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t n = pwrite(fd_, bytes.data(), bytes.size(), offset);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return SystemError(errno, "write " + out_);
      bytes.remove_prefix(static_cast<size_t>(n));
      offset += n;
    }
    return absl::OkStatus();
  }

  void Fail(absl::Status status) {
    next_ = pieces_.size();
    MutexLock lock(mutex_);
    if (failure_.ok()) failure_ = std::move(status);
  }

  const DeltaPack& delta_;
  const Checkpoint& from_;
  const int fd_;
  const std::string& out_;
  const RebuildProgress& progress_;
  std::vector<Piece> pieces_;
  std::atomic<size_t> next_ = 0;
  Mutex mutex_;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  std::set<const TensorEntry*> missing_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<RebuiltFile> RebuildFile(const DeltaPack& delta,
                                        absl::string_view path,
                                        const Checkpoint& from,
                                        const std::string& out, int threads,
                                        const RebuildProgress& progress) {
  const SafetensorsHeader* header = delta.FindHeader(path);
  if (header == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("the delta has no file \"", path, "\""));
  }
  CAIRN_RETURN_IF_ERROR(WriteFile(out, delta.HeaderBytes(path)));
  const int fd = open(out.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return SystemError(errno, "open " + out);
  Rebuild rebuild(delta, *header, from, fd, out, progress);
  absl::Status status;
  if (ftruncate(fd, delta.FileSize(path)) != 0) {
    status = SystemError(errno, "make " + out + " as long as it will be");
  } else {
    if (progress) progress(header->header_bytes());
    status = rebuild.Run(threads);
  }
  close(fd);
  if (!status.ok()) return status;
  return RebuiltFile{.missing = rebuild.TakeMissing()};
}

}  // namespace cairn
