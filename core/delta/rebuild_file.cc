#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <map>
#include <memory>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/mutex.h"
#include "core/base/status_macros.h"
#include "core/delta/counterpart.h"
#include "core/delta/delta_pack.h"
#include "core/delta/delta_pack_form.h"
#include "core/delta/low_rank_steps.h"

namespace cairn {
namespace {

struct Piece {
  const TensorEntry* tensor;
  int64_t number;
};

// The steps of the tensors that are in work, each decoded once. Thread-safe.
class StepsInWork {
 public:
  explicit StepsInWork(const DeltaPack& delta) : delta_(delta) {}

  absl::StatusOr<std::shared_ptr<const LowRankSteps>> Find(
      const v1::DeltaTensor& tensor) {
    MutexLock lock(mutex_);
    std::weak_ptr<const LowRankSteps>& known = known_[&tensor];
    if (auto steps = known.lock(); steps != nullptr) return steps;
    CAIRN_ASSIGN_OR_RETURN(LowRankSteps read, delta_.ReadSteps(tensor));
    auto steps = std::make_shared<const LowRankSteps>(std::move(read));
    known = steps;
    return steps;
  }

 private:
  const DeltaPack& delta_;
  Mutex mutex_;
  // Shared by the threads whose pieces are of the tensor.
  std::map<const v1::DeltaTensor*, std::weak_ptr<const LowRankSteps>> known_
      ABSL_GUARDED_BY(mutex_);
};

// What a thread works with.
struct Scratch {
  DeltaDecoder decoder;
  std::string base, made, coded;
  // Those of the tensor whose piece came last, so that they stay in memory.
  std::shared_ptr<const LowRankSteps> steps;
};

class Rebuild {
 public:
  Rebuild(const DeltaPack& delta, const SafetensorsHeader& header,
          const Checkpoint& from, int fd, const std::string& out,
          const RebuildProgress& progress)
      : delta_(delta),
        from_(from),
        fd_(fd),
        out_(out),
        progress_(progress),
        steps_(delta) {
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
    Scratch scratch;
    while (true) {
      const size_t next = next_++;
      if (next >= pieces_.size()) return;
      const Piece& piece = pieces_[next];
      const int64_t begin = piece.number * kDeltaPieceBytes;
      const auto bytes = static_cast<size_t>(std::min(
          kDeltaPieceBytes, piece.tensor->end - piece.tensor->begin - begin));
      scratch.base.resize(bytes);
      scratch.made.resize(bytes);
      if (Make(piece, begin, scratch).ok()) {
        absl::Status written = WriteAt(fd_, piece.tensor->begin + begin, scratch.made, out_);
        if (!written.ok()) return Fail(std::move(written));
      } else {
        MutexLock lock(mutex_);
        missing_.insert(piece.tensor);
      }
      if (progress_) progress_(static_cast<int64_t>(bytes));
    }
  }

  absl::Status Make(const Piece& piece, int64_t begin, Scratch& scratch) {
    const TensorEntry& tensor = *piece.tensor;
    std::string& base = scratch.base;
    const v1::DeltaTensor* change = delta_.Find(tensor.name);
    if (change != nullptr && change->is_new()) {
      std::fill(base.begin(), base.end(), '\0');
    } else {
      const CheckpointTensor* before = FindCounterpart(from_, tensor);
      if (before == nullptr) return absl::NotFoundError(tensor.name);
      CAIRN_RETURN_IF_ERROR(
          ReadCounterpart(from_, *before, begin, absl::MakeSpan(base)));
    }
    if (change == nullptr) {
      scratch.made.swap(base);
      return absl::OkStatus();
    }
    if (!change->steps().empty()) {
      CAIRN_ASSIGN_OR_RETURN(scratch.steps, steps_.Find(*change));
      ApplySteps(*scratch.steps, tensor.dtype, tensor.shape[1],
                 begin * 8 / DTypeBits(tensor.dtype), absl::MakeSpan(base));
    }
    return delta_.DecodePiece(*change, piece.number, tensor.dtype, base,
                              absl::MakeSpan(scratch.made), scratch.decoder,
                              scratch.coded);
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
  StepsInWork steps_;
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
