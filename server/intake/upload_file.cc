#include "server/intake/upload_file.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/failpoint.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

// Writing begins when so much came since it began last.
constexpr int64_t kWriteStep = 256 << 10;
// The hash is taken up when so much waits for it, and lets others have the
// thread after each such step.
constexpr int64_t kHashStep = 1 << 20;

}  // namespace

UploadFile::UploadFile(std::string name, std::unique_ptr<BlobWriter> writer,
                       UploadFileOptions options)
    : name_(std::move(name)),
      options_(options),
      found_(writer->size()),
      writer_(std::move(writer)),
      size_(found_),
      committed_(found_),
      sync_begun_(found_),
      write_begun_(found_) {}

int64_t UploadFile::size() const {
  MutexLock lock(mutex_);
  return size_;
}

int64_t UploadFile::committed() const {
  MutexLock lock(mutex_);
  return committed_;
}

bool UploadFile::is_broken() const {
  MutexLock lock(mutex_);
  return !broken_.ok();
}

absl::Status UploadFile::Usable() const {
  if (is_closed_) {
    return absl::AbortedError(absl::StrCat(
        name_, " was finished or dropped by another call: begin it again"));
  }
  return broken_;
}

bool UploadFile::HasRoom() const {
  return size_ - committed_ < 4 * options_.sync_bytes &&
         size_ - hashed_ < std::max(options_.unhashed_max, found_);
}

void UploadFile::Write(Chunk chunk) {
  absl::Status refused;
  {
    MutexLock lock(mutex_);
    refused = Usable();
    if (refused.ok() && *chunk.is_cancelled) {
      refused = absl::CancelledError("the stream ended");
    }
    if (refused.ok()) {
      const int64_t offset = chunk.offset;
      waiting_.emplace(offset, std::move(chunk));
    }
  }
  if (refused.ok()) {
    Pump();
  } else {
    chunk.done(refused);
  }
}

void UploadFile::Forget(const std::atomic<bool>* is_cancelled) {
  Waiting forgotten;
  {
    MutexLock lock(mutex_);
    for (auto it = waiting_.begin(); it != waiting_.end();) {
      auto next = std::next(it);
      if (it->second.is_cancelled == is_cancelled) {
        forgotten.insert(waiting_.extract(it));
      }
      it = next;
    }
  }
  for (auto& [offset, chunk] : forgotten) {
    chunk.done(absl::CancelledError("the stream ended"));
  }
}

void UploadFile::Pump() {
  // The last stream may go away when it is told that its chunk is stored.
  const std::shared_ptr<UploadFile> self = shared_from_this();
  while (std::optional<Turn> turn = BeginTurn()) {
    absl::Status status = Append(*turn);
    EndTurn();
    StartWork();
    if (status.ok()) {
      MutexLock lock(mutex_);
      status = broken_;
    }
    turn->chunk.done(status);
  }
}

std::optional<UploadFile::Turn> UploadFile::BeginTurn() {
  MutexLock lock(mutex_);
  if (is_appending_ || waiting_.empty() || !HasRoom()) return std::nullopt;
  auto first = waiting_.begin();
  if (first->first > size_) return std::nullopt;
  Turn turn{.chunk = std::move(first->second), .stored = size_};
  waiting_.erase(first);
  is_appending_ = true;
  return turn;
}

absl::Status UploadFile::PassKnown(const BlobWriter& writer, Chunk& chunk,
                                   size_t known) {
  std::string stored(known, '\0');
  CAIRN_RETURN_IF_ERROR(writer.ReadBack(chunk.offset, absl::MakeSpan(stored)));
  absl::string_view left = stored;
  for (absl::string_view& piece : chunk.pieces) {
    const absl::string_view again = piece.substr(0, left.size());
    if (again != left.substr(0, again.size())) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the chunk at ", chunk.offset, " differs from what ", name_,
          " holds there: cancel the upload and begin another one"));
    }
    left.remove_prefix(again.size());
    piece.remove_prefix(again.size());
  }
  return absl::OkStatus();
}

absl::Status UploadFile::Append(Turn& turn) {
  BlobWriter* writer;
  {
    MutexLock lock(mutex_);
    writer = writer_.get();
  }
  int64_t size = 0;
  for (absl::string_view piece : turn.chunk.pieces) {
    size += static_cast<int64_t>(piece.size());
  }
  const int64_t known = std::min(size, turn.stored - turn.chunk.offset);
  if (known > 0) {
    CAIRN_RETURN_IF_ERROR(
        PassKnown(*writer, turn.chunk, static_cast<size_t>(known)));
  }
  if (known == size) return absl::OkStatus();
  CAIRN_RETURN_IF_ERROR(writer->AppendPieces(turn.chunk.pieces));
  return Failpoint("upload.written");
}

void UploadFile::EndTurn() {
  MutexLock lock(mutex_);
  size_ = writer_->size();
  is_appending_ = false;
  idle_.NotifyAll();
}

void UploadFile::StartWork() {
  bool ran_here = true;
  while (ran_here) {
    bool write = false;
    bool sync = false;
    bool hash = false;
    {
      MutexLock lock(mutex_);
      if (is_closed_ || !broken_.ok()) return;
      write = !is_write_due_ && size_ - write_begun_ >= kWriteStep;
      sync = !is_sync_due_ && size_ - sync_begun_ >= options_.sync_bytes;
      hash = !is_hash_due_ && size_ - hashed_ >= kHashStep;
      is_write_due_ |= write;
      is_sync_due_ |= sync;
      is_hash_due_ |= hash;
    }
    ran_here = false;
    if (write) ran_here |= RunsHere(&UploadFile::WriteSome);
    if (sync) ran_here |= RunsHere(&UploadFile::SyncSome);
    if (hash) ran_here |= RunsHere(&UploadFile::HashSome);
  }
}

bool UploadFile::RunsHere(void (UploadFile::*work)()) {
  auto task = [self = shared_from_this(), work] {
    (self.get()->*work)();
    self->StartWork();
    self->Pump();
  };
  if (options_.background != nullptr && options_.background->Submit(task)) {
    return false;
  }
  (this->*work)();
  return true;
}

void UploadFile::WriteSome() {
  BlobWriter* writer;
  {
    MutexLock lock(mutex_);
    is_writing_ = !is_closed_ && broken_.ok();
    if (!is_writing_) return;
    write_begun_ = size_;
    writer = writer_.get();
  }
  const absl::Status written = writer->WriteOut();
  {
    MutexLock lock(mutex_);
    is_writing_ = false;
    is_write_due_ = false;
    idle_.NotifyAll();
  }
  if (!written.ok()) (void)Break(written);
}

void UploadFile::SyncSome() {
  (void)SyncNow();  // a failure breaks the file
  MutexLock lock(mutex_);
  is_sync_due_ = false;
}

absl::StatusOr<int64_t> UploadFile::Sync() {
  {
    MutexLock lock(mutex_);
    CAIRN_RETURN_IF_ERROR(Usable());
    if (committed_ == size_) return committed_;
  }
  auto synced = SyncNow();
  // Somebody may have waited for room.
  Pump();
  return synced;
}

absl::StatusOr<int64_t> UploadFile::SyncNow() {
  BlobWriter* writer;
  {
    MutexLock lock(mutex_);
    CAIRN_RETURN_IF_ERROR(Usable());
    ++syncs_;
    sync_begun_ = size_;
    writer = writer_.get();
  }
  absl::StatusOr<int64_t> synced = writer->Sync();
  {
    MutexLock lock(mutex_);
    --syncs_;
    if (synced.ok()) committed_ = std::max(committed_, *synced);
    idle_.NotifyAll();
  }
  if (!synced.ok()) return Break(synced.status());
  return synced;
}

void UploadFile::HashSome() {
  BlobWriter* writer;
  {
    MutexLock lock(mutex_);
    is_hashing_ = !is_closed_ && broken_.ok();
    if (!is_hashing_) return;
    writer = writer_.get();
  }
  absl::StatusOr<int64_t> hashed = writer->CatchUp(kHashStep);
  {
    MutexLock lock(mutex_);
    if (hashed.ok()) hashed_ = *hashed;
    is_hashing_ = false;
    is_hash_due_ = false;
    idle_.NotifyAll();
  }
  if (!hashed.ok()) (void)Break(hashed.status());
}

absl::Status UploadFile::Break(const absl::Status& status) {
  Waiting waiting;
  {
    MutexLock lock(mutex_);
    broken_.Update(status);
    waiting.swap(waiting_);
  }
  for (auto& [offset, chunk] : waiting) chunk.done(status);
  return status;
}

std::unique_ptr<BlobWriter> UploadFile::Close() {
  Waiting waiting;
  absl::Status closed;
  std::unique_ptr<BlobWriter> writer;
  {
    MutexLock lock(mutex_);
    if (is_closed_) return nullptr;
    is_closed_ = true;
    closed = Usable();
    waiting.swap(waiting_);
    while (is_appending_ || is_writing_ || is_hashing_ || syncs_ > 0) {
      idle_.Wait(mutex_);
    }
    writer = std::move(writer_);
  }
  for (auto& [offset, chunk] : waiting) chunk.done(closed);
  return writer;
}

}  // namespace cairn
