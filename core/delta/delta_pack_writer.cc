#include "core/delta/delta_pack_writer.h"

#include <algorithm>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cairn/v1/delta.pb.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/mutex.h"
#include "core/base/status_macros.h"
#include "core/delta/counterpart.h"
#include "core/delta/delta_pack.h"
#include "core/delta/delta_pack_form.h"

namespace cairn {
namespace {

void AppendNumber(uint64_t number, int count, std::string& out) {
  for (int i = 0; i < count; ++i) {
    out += static_cast<char>(number >> (8 * i));
  }
}

// A tensor of the newer release and its counterpart, if it has one.
struct Change {
  const CheckpointTensor* tensor;
  const CheckpointTensor* before;
  int64_t pieces;
  bool is_new() const { return before == nullptr; }
  bool has_same_shape() const {
    return before != nullptr && before->shape == tensor->shape;
  }
  // Decided with the first piece: what the pieces are coded against, until the
  // last one is begun. Null: the older tensor itself.
  bool is_decided = false;
  std::shared_ptr<const LowRankSteps> steps = nullptr;
  v1::DeltaTensor described = {};
};

struct Piece {
  size_t change;
  int64_t number;
};

// What a thread works with.
struct Scratch {
  DeltaEncoder encoder;
  DeltaDecoder decoder;
  std::string base, made, coded, check;
};

absl::Status EncodeBlocks(const CheckpointTensor& tensor, Scratch& scratch,
                          const std::string& base, std::string& coded) {
  coded.clear();
  // Nothing at all says that a piece did not change.
  if (base == scratch.made) return absl::OkStatus();
  const ElementForm form = FormOf(tensor.dtype);
  scratch.check.resize(kDeltaBlockBytesMax);
  for (size_t at = 0; at < base.size(); at += kDeltaBlockBytesMax) {
    const size_t n = std::min(kDeltaBlockBytesMax, base.size() - at);
    const absl::Span<const char> before(base.data() + at, n);
    const absl::Span<const char> after(scratch.made.data() + at, n);
    const size_t length_at = coded.size();
    coded.append(4, '\0');
    scratch.encoder.Encode(before, after, form, coded);
    const uint64_t length = coded.size() - length_at - 4;
    for (size_t i = 0; i < 4; ++i) {
      coded[length_at + i] = static_cast<char>(length >> (8 * i));
    }
    CAIRN_RETURN_IF_ERROR(scratch.decoder.Decode(
        absl::string_view(coded).substr(length_at + 4), before, form,
        absl::MakeSpan(&scratch.check[0], n)));
    if (after != absl::MakeConstSpan(scratch.check.data(), n)) {
      return absl::InternalError(absl::StrCat(
          "tensor ", tensor.name, " does not come back from its delta"));
    }
  }
  return absl::OkStatus();
}

// Encodes pieces on several threads and appends them in their order.
class PackRun {
 public:
  PackRun(const Checkpoint& from, const Checkpoint& to, FileAppender& file,
          const DeltaPackOptions& options)
      : from_(from), to_(to), options_(options), file_(file) {
    for (const CheckpointTensor& tensor : to.tensors()) {
      const int64_t pieces = DeltaPieces(tensor.end - tensor.begin);
      for (int64_t p = 0; p < pieces; ++p) {
        pieces_.push_back({changes_.size(), p});
      }
      changes_.push_back({&tensor, FindCounterpart(from, tensor), pieces});
    }
  }

  absl::Status Run() {
    CAIRN_RETURN_IF_ERROR(Append(kDeltaMagic));
    {
      std::vector<std::jthread> others;
      for (int i = 1; i < options_.threads; ++i) {
        others.emplace_back([this] { Work(); });
      }
      Work();
    }
    MutexLock lock(mutex_);
    return failure_;
  }

  absl::StatusOr<WrittenDelta> Finish() {
    CAIRN_ASSIGN_OR_RETURN(std::string tail, MakeIndex());
    AppendNumber(tail.size(), 8, tail);
    absl::StrAppend(&tail, kDeltaMagic);
    CAIRN_RETURN_IF_ERROR(Append(tail));
    return WrittenDelta{.sha256 = hasher_.FinishHex(), .size_bytes = size_};
  }

 private:
  void Work() {
    Scratch scratch;
    while (true) {
      size_t mine;
      {
        MutexLock lock(mutex_);
        if (!failure_.ok() || started_ == pieces_.size()) return;
        mine = started_++;
      }
      absl::Status status = Encode(pieces_[mine], scratch);
      if (!Commit(mine, scratch.coded, std::move(status))) return;
    }
  }

  absl::Status Encode(const Piece& piece, Scratch& scratch) {
    const CheckpointTensor& tensor = *changes_[piece.change].tensor;
    const int64_t begin = piece.number * kDeltaPieceBytes;
    const auto bytes = static_cast<size_t>(
        std::min(kDeltaPieceBytes, tensor.end - tensor.begin - begin));
    scratch.base.assign(bytes, '\0');
    scratch.made.resize(bytes);
    CAIRN_RETURN_IF_ERROR(
        to_.ReadBytes(tensor.name, begin, absl::MakeSpan(scratch.made)));
    if (const CheckpointTensor* before = changes_[piece.change].before) {
      CAIRN_RETURN_IF_ERROR(ReadCounterpart(from_, *before, begin,
                                            absl::MakeSpan(scratch.base)));
    }
    if (piece.number == 0) return EncodeFirst(piece.change, scratch);
    if (auto steps = AwaitSteps(piece); steps != nullptr) {
      ApplySteps(*steps, tensor.dtype, tensor.shape[1],
                 begin * 8 / DTypeBits(tensor.dtype),
                 absl::MakeSpan(scratch.base));
    }
    return EncodeBlocks(tensor, scratch, scratch.base, scratch.coded);
  }

  // Encodes the first piece of a tensor against the older one and, where steps
  // are known, against what they make of it, to decide by which the tensor is
  // likely to take less.
  absl::Status EncodeFirst(size_t number, Scratch& scratch) {
    const Change& change = changes_[number];
    const CheckpointTensor& tensor = *change.tensor;
    absl::Status coded =
        EncodeBlocks(tensor, scratch, scratch.base, scratch.coded);
    LowRankSteps steps;
    if (coded.ok() && options_.steps && change.has_same_shape() &&
        !scratch.coded.empty()) {
      auto known = options_.steps(tensor);
      coded = known.status();
      if (known.ok()) steps = *std::move(known);
    }
    if (!coded.ok() || !IsUsable(steps, tensor.dtype, tensor.shape)) {
      Decide(number, nullptr, {});
      return coded;
    }
    ApplySteps(steps, tensor.dtype, tensor.shape[1], 0,
               absl::MakeSpan(scratch.base));
    std::string residual;
    coded = EncodeBlocks(tensor, scratch, scratch.base, residual);
    v1::DeltaTensor described;
    PlaneEncoder planes;
    const std::string factors = EncodeSteps(steps, planes, described);
    const auto pieces = static_cast<size_t>(change.pieces);
    if (!coded.ok() ||
        factors.size() + residual.size() * pieces >=
            scratch.coded.size() * pieces) {
      Decide(number, nullptr, {});
      return coded;
    }
    scratch.coded = factors + residual;
    Decide(number, std::make_shared<const LowRankSteps>(std::move(steps)),
           std::move(described));
    return absl::OkStatus();
  }

  void Decide(size_t number, std::shared_ptr<const LowRankSteps> steps,
              v1::DeltaTensor described) {
    MutexLock lock(mutex_);
    Change& change = changes_[number];
    change.described = std::move(described);
    if (change.pieces > 1) change.steps = std::move(steps);
    change.is_decided = true;
    turn_.NotifyAll();
  }

  // What the first piece's thread, which began before, decided.
  std::shared_ptr<const LowRankSteps> AwaitSteps(const Piece& piece) {
    MutexLock lock(mutex_);
    Change& change = changes_[piece.change];
    while (failure_.ok() && !change.is_decided) turn_.Wait(mutex_);
    // The last piece to begin leaves them to those that are at work.
    if (piece.number + 1 == change.pieces) return std::move(change.steps);
    return change.steps;
  }

  // Appends a piece once those before it are there. False after a failure.
  bool Commit(size_t mine, const std::string& coded, absl::Status status) {
    MutexLock lock(mutex_);
    while (failure_.ok() && committed_ != mine) turn_.Wait(mutex_);
    if (failure_.ok() && status.ok()) status = Append(coded);
    if (failure_.ok() && !status.ok()) failure_ = std::move(status);
    if (failure_.ok()) {
      Note(pieces_[mine], static_cast<int64_t>(coded.size()));
      ++committed_;
      if (options_.progress) {
        options_.progress(static_cast<double>(committed_) /
                          static_cast<double>(pieces_.size()));
      }
    }
    turn_.NotifyAll();
    return failure_.ok();
  }

  // Notes the length of a piece; the factors stand before the first one.
  void Note(const Piece& piece, int64_t bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    v1::DeltaTensor& described = changes_[piece.change].described;
    for (const v1::DeltaStep& step : described.steps()) {
      if (piece.number > 0) break;
      for (const v1::DeltaTerm& term : step.terms()) {
        bytes -= term.coded_bytes();
      }
    }
    described.add_piece_bytes(bytes);
  }

  absl::Status Append(absl::string_view bytes) {
    hasher_.Update(bytes);
    size_ += static_cast<int64_t>(bytes.size());
    return file_.Append(bytes);
  }

  absl::StatusOr<std::string> MakeIndex() const {
    v1::DeltaIndex index;
    index.set_from_digest(options_.from_digest);
    index.set_to_digest(options_.to_digest);
    for (const auto& [path, header] : to_.headers()) {
      const SharedSource& source = to_.files().at(path);
      v1::DeltaFile& file = *index.add_files();
      file.set_path(path);
      file.set_size_bytes(source->size());
      file.mutable_header()->resize(static_cast<size_t>(header.header_bytes()));
      CAIRN_RETURN_IF_ERROR(
          source->ReadAt(0, absl::MakeSpan(*file.mutable_header())));
    }
    for (const Change& change : changes_) {
      const auto& piece_bytes = change.described.piece_bytes();
      const bool is_same =
          change.has_same_shape() && change.described.steps().empty() &&
          std::all_of(piece_bytes.begin(), piece_bytes.end(),
                      [](int64_t bytes) { return bytes == 0; });
      if (is_same) continue;
      v1::DeltaTensor& tensor = *index.add_tensors();
      tensor = change.described;
      tensor.set_name(change.tensor->name);
      tensor.set_is_new(change.is_new());
    }
    return index.SerializeAsString();
  }

  const Checkpoint& from_;
  const Checkpoint& to_;
  const DeltaPackOptions& options_;
  std::vector<Piece> pieces_;

  Mutex mutex_;
  CondVar turn_;
  size_t started_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t committed_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  // tensor, before and pieces never change; the rest is guarded.
  std::vector<Change> changes_;
  FileAppender& file_;
  Hasher hasher_;
  int64_t size_ = 0;
};

}  // namespace

absl::StatusOr<WrittenDelta> WriteDeltaPack(const Checkpoint& from,
                                            const Checkpoint& to,
                                            const std::string& path,
                                            const DeltaPackOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(FileAppender file, FileAppender::Open(path + ".part"));
  PackRun run(from, to, file, options);
  CAIRN_RETURN_IF_ERROR(run.Run());
  CAIRN_ASSIGN_OR_RETURN(WrittenDelta written, run.Finish());
  CAIRN_RETURN_IF_ERROR(std::move(file).Publish(path));
  return written;
}

}  // namespace cairn
