#include "core/delta/delta_pack_writer.h"

#include <algorithm>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cairn/v1/delta.pb.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/mutex.h"
#include "core/base/status_macros.h"
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
  bool is_new;
  std::vector<int64_t> piece_bytes;
};

struct Piece {
  size_t change;
  int64_t number;
};

// Encodes pieces on several threads and appends them in their order.
class PackRun {
 public:
  PackRun(const Checkpoint& from, const Checkpoint& to, FileAppender& file,
          const DeltaPackOptions& options)
      : from_(from), to_(to), options_(options), file_(file) {
    for (const CheckpointTensor& tensor : to.tensors()) {
      const CheckpointTensor* before = from.Find(tensor.name);
      const bool is_new = before == nullptr || before->dtype != tensor.dtype ||
                          before->shape != tensor.shape;
      const int64_t pieces = DeltaPieces(tensor.end - tensor.begin);
      for (int64_t p = 0; p < pieces; ++p) {
        pieces_.push_back({changes_.size(), p});
      }
      changes_.push_back({&tensor, is_new, {}});
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
    std::string base, made, coded, check;
    DeltaEncoder encoder;
    DeltaDecoder decoder;
    while (true) {
      size_t mine;
      {
        MutexLock lock(mutex_);
        if (!failure_.ok() || started_ == pieces_.size()) return;
        mine = started_++;
      }
      absl::Status status =
          Encode(pieces_[mine], encoder, decoder, base, made, coded, check);
      if (!Commit(mine, coded, std::move(status))) return;
    }
  }

  absl::Status Encode(const Piece& piece, DeltaEncoder& encoder,
                      DeltaDecoder& decoder, std::string& base,
                      std::string& made, std::string& coded,
                      std::string& check) const {
    const Change& change = changes_[piece.change];
    const CheckpointTensor& tensor = *change.tensor;
    const int64_t begin = piece.number * kDeltaPieceBytes;
    const auto bytes = static_cast<size_t>(
        std::min(kDeltaPieceBytes, tensor.end - tensor.begin - begin));
    base.assign(bytes, '\0');
    made.resize(bytes);
    coded.clear();
    CAIRN_RETURN_IF_ERROR(
        to_.ReadBytes(tensor.name, begin, absl::MakeSpan(made)));
    if (!change.is_new) {
      CAIRN_RETURN_IF_ERROR(
          from_.ReadBytes(tensor.name, begin, absl::MakeSpan(base)));
    }
    // Nothing at all says that a piece did not change.
    if (base == made) return absl::OkStatus();
    const ElementForm form = FormOf(tensor.dtype);
    check.resize(kDeltaBlockBytesMax);
    for (size_t at = 0; at < bytes; at += kDeltaBlockBytesMax) {
      const size_t n = std::min(kDeltaBlockBytesMax, bytes - at);
      const absl::Span<const char> before(base.data() + at, n);
      const absl::Span<const char> after(made.data() + at, n);
      const size_t length_at = coded.size();
      coded.append(4, '\0');
      encoder.Encode(before, after, form, coded);
      const uint64_t length = coded.size() - length_at - 4;
      for (size_t i = 0; i < 4; ++i) {
        coded[length_at + i] = static_cast<char>(length >> (8 * i));
      }
      CAIRN_RETURN_IF_ERROR(
          decoder.Decode(absl::string_view(coded).substr(length_at + 4), before,
                         form, absl::MakeSpan(&check[0], n)));
      if (after != absl::MakeConstSpan(check.data(), n)) {
        return absl::InternalError(absl::StrCat(
            "tensor ", tensor.name, " does not come back from its delta"));
      }
    }
    return absl::OkStatus();
  }

  // Appends a piece once those before it are there. False after a failure.
  bool Commit(size_t mine, const std::string& coded, absl::Status status) {
    MutexLock lock(mutex_);
    while (failure_.ok() && committed_ != mine) turn_.Wait(mutex_);
    if (failure_.ok() && status.ok()) status = Append(coded);
    if (failure_.ok() && !status.ok()) failure_ = std::move(status);
    if (failure_.ok()) {
      changes_[pieces_[mine].change].piece_bytes.push_back(
          static_cast<int64_t>(coded.size()));
      ++committed_;
      if (options_.progress) {
        options_.progress(static_cast<double>(committed_) /
                          static_cast<double>(pieces_.size()));
      }
    }
    turn_.NotifyAll();
    return failure_.ok();
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
      const bool is_same =
          !change.is_new &&
          std::all_of(change.piece_bytes.begin(), change.piece_bytes.end(),
                      [](int64_t bytes) { return bytes == 0; });
      if (is_same) continue;
      v1::DeltaTensor& tensor = *index.add_tensors();
      tensor.set_name(change.tensor->name);
      tensor.mutable_piece_bytes()->Add(change.piece_bytes.begin(),
                                        change.piece_bytes.end());
      tensor.set_is_new(change.is_new);
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
  // The piece whose turn it is writes; the others look at is_new alone.
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
