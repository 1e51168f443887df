#include "core/rpc/part_reader.h"

#include <algorithm>
#include <utility>

#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/rpc/chunk_message.h"
#include "core/rpc/limits.h"

namespace cairn {

void PartReader::Start(int64_t from) {
  Stop();
  {
    MutexLock lock(mutex_);
    is_stopping_ = false;
    is_at_end_ = false;
    for (auto& part : ready_) free_.push_back(std::move(part));
    ready_.clear();
  }
  thread_ = std::jthread([this, from] { Run(from); });
}

void PartReader::RequestStop() {
  MutexLock lock(mutex_);
  is_stopping_ = true;
  changed_.NotifyAll();
}

void PartReader::Stop() {
  RequestStop();
  if (thread_.joinable()) thread_.join();
}

bool PartReader::is_stopping() const {
  MutexLock lock(mutex_);
  return is_stopping_;
}

absl::Status PartReader::status() const {
  MutexLock lock(mutex_);
  return status_;
}

std::unique_ptr<Part> PartReader::Next() {
  MutexLock lock(mutex_);
  while (ready_.empty() && !is_stopping_ && !is_at_end_) changed_.Wait(mutex_);
  if (ready_.empty() || is_stopping_) return nullptr;
  std::unique_ptr<Part> part = std::move(ready_.front());
  ready_.pop_front();
  return part;
}

void PartReader::GiveBack(std::unique_ptr<Part> part) {
  MutexLock lock(mutex_);
  free_.push_back(std::move(part));
  changed_.NotifyAll();
}

std::unique_ptr<Part> PartReader::Acquire() {
  MutexLock lock(mutex_);
  while (!is_stopping_ && free_.empty() && made_ == options_.parts_max) {
    changed_.Wait(mutex_);
  }
  if (is_stopping_) return nullptr;
  if (free_.empty()) {
    ++made_;
    return std::make_unique<Part>();
  }
  std::unique_ptr<Part> part = std::move(free_.back());
  free_.pop_back();
  return part;
}

void PartReader::Offer(std::unique_ptr<Part> part) {
  MutexLock lock(mutex_);
  ready_.push_back(std::move(part));
  changed_.NotifyAll();
}

void PartReader::Run(int64_t from) {
  absl::Status status;
  if (options_.hashing == Hashing::kOnTheWay) status = HashTo(from);
  for (int64_t at = from; status.ok() && at < options_.size_bytes;
       at += kPartBytes) {
    std::unique_ptr<Part> part = Acquire();
    if (part == nullptr) break;
    status = Fill(*part, at);
    if (status.ok()) {
      Offer(std::move(part));
    } else {
      GiveBack(std::move(part));
    }
  }
  MutexLock lock(mutex_);
  status_.Update(status);
  is_at_end_ = true;
  changed_.NotifyAll();
}

absl::Status PartReader::Fill(Part& part, int64_t at) {
  const int64_t end = std::min(options_.size_bytes, at + kPartBytes);
  part.offset = at;
  part.chunks.clear();
  for (int64_t begin = at; begin < end; begin += kChunkBytes) {
    const NewSlice memory(
        static_cast<size_t>(std::min(kChunkBytes, end - begin)));
    CAIRN_RETURN_IF_ERROR(
        source_.ReadAt(options_.offset + begin, memory.bytes()));
    const absl::string_view chunk(memory.bytes().data(),
                                  memory.bytes().size());
    part.chunks.push_back({.bytes = memory.slice(), .crc32c = Crc32c(chunk)});
    const int64_t chunk_end = begin + static_cast<int64_t>(chunk.size());
    if (options_.hashing != Hashing::kOnTheWay || chunk_end <= hashed_) {
      continue;
    }
    // What is sent again was hashed before.
    hasher_.Update(chunk.substr(static_cast<size_t>(hashed_ - begin)));
    hashed_ = chunk_end;
  }
  return absl::OkStatus();
}

absl::Status PartReader::HashTo(int64_t end) {
  std::string tile;
  while (hashed_ < end && !is_stopping()) {
    tile.resize(static_cast<size_t>(std::min(kChunkBytes, end - hashed_)));
    CAIRN_RETURN_IF_ERROR(
        source_.ReadAt(options_.offset + hashed_, absl::MakeSpan(tile)));
    hasher_.Update(tile);
    hashed_ += static_cast<int64_t>(tile.size());
  }
  return absl::OkStatus();
}

absl::StatusOr<Digest> PartReader::FinishHash() {
  Stop();
  {
    MutexLock lock(mutex_);
    is_stopping_ = false;
  }
  CAIRN_RETURN_IF_ERROR(HashTo(options_.size_bytes));
  CAIRN_CHECK(hashed_ == options_.size_bytes);
  return hasher_.Finish();
}

}  // namespace cairn
