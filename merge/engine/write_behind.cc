#include "merge/engine/write_behind.h"

#include <sys/mman.h>

#include "absl/strings/string_view.h"
#include "core/base/log.h"

namespace cairn {
namespace {

// Two keep a disk busy while one of them is between two buffers.
constexpr int kThreads = 2;

char* MapMemory(size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CAIRN_CHECK(memory != MAP_FAILED);
  return static_cast<char*>(memory);
}

}  // namespace

void WriteBehind::Unmap::operator()(char* memory) const {
  munmap(memory, bytes);
}

WriteBehind::WriteBehind(int buffers, size_t buffer_bytes)
    : buffer_bytes_(buffer_bytes),
      buffers_(static_cast<size_t>(buffers)),
      memory_(MapMemory(buffers_ * buffer_bytes),
              Unmap{buffers_ * buffer_bytes}),
      threads_({.threads = kThreads, .queue_max = buffers_}) {
  CAIRN_CHECK(buffer_bytes % kPage == 0);
  MutexLock lock(mutex_);
  // Those that were used last are taken first, so that few are used at all.
  for (size_t i = buffers_; i-- > 0;) {
    free_.push_back(memory_.get() + i * buffer_bytes);
  }
}

char* WriteBehind::Take() {
  MutexLock lock(mutex_);
  while (free_.empty()) freed_.Wait(mutex_);
  char* buffer = free_.back();
  free_.pop_back();
  return buffer;
}

void WriteBehind::GiveBack(char* buffer) {
  {
    MutexLock lock(mutex_);
    free_.push_back(buffer);
  }
  freed_.NotifyAll();
}

void WriteBehind::Write(WrittenFile& file, int64_t offset, char* buffer,
                        size_t begin, size_t end) {
  const bool is_queued =
      threads_.Submit([this, &file, offset, buffer, begin, end] {
        absl::Status status = WriteDirect(
            file, offset, absl::string_view(buffer, end), begin, end);
        if (!status.ok()) {
          MutexLock lock(mutex_);
          if (status_.ok()) status_ = std::move(status);
        }
        GiveBack(buffer);
      });
  CAIRN_CHECK(is_queued);  // as many fit as there are buffers
}

absl::Status WriteBehind::status() {
  MutexLock lock(mutex_);
  return status_;
}

absl::Status WriteBehind::Wait() {
  MutexLock lock(mutex_);
  while (free_.size() < buffers_) freed_.Wait(mutex_);
  return status_;
}

}  // namespace cairn
