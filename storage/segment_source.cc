#include "storage/segment_source.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/mutex.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

class SegmentSource : public ByteSource {
 public:
  SegmentSource(const BlobStore& blobs, std::string label,
                std::vector<BlobSegment> segments)
      : blobs_(blobs),
        label_(std::move(label)),
        segments_(std::move(segments)) {
    for (const BlobSegment& segment : segments_) {
      size_ += segment.size_bytes;
      ends_.push_back(size_);
    }
  }

  int64_t size() const override { return size_; }

  absl::Status ReadAt(int64_t offset, absl::Span<char> out) const override {
    if (offset < 0 || offset > size_ ||
        static_cast<int64_t>(out.size()) > size_ - offset) {
      return absl::OutOfRangeError(
          absl::StrCat(label_, ": read of ", out.size(), " bytes at ", offset,
                       " passes the end at ", size_));
    }
    while (!out.empty()) {
      // The segment that holds `offset`; empty ones are passed over.
      const auto index = static_cast<size_t>(
          std::upper_bound(ends_.begin(), ends_.end(), offset) - ends_.begin());
      const int64_t begin = ends_[index] - segments_[index].size_bytes;
      const auto part = static_cast<size_t>(std::min<int64_t>(
          static_cast<int64_t>(out.size()), ends_[index] - offset));
      CAIRN_ASSIGN_OR_RETURN(auto source, OpenSegment(index));
      CAIRN_RETURN_IF_ERROR(
          source->ReadAt(offset - begin, out.subspan(0, part)));
      out.remove_prefix(part);
      offset += static_cast<int64_t>(part);
    }
    return absl::OkStatus();
  }

 private:
  absl::StatusOr<SharedSource> OpenSegment(size_t index) const {
    {
      MutexLock lock(mutex_);
      if (open_ != nullptr && open_index_ == index) return open_;
    }
    const BlobSegment& segment = segments_[index];
    auto opened = blobs_.Open(segment.digest);
    if (!opened.ok() && !absl::IsNotFound(opened.status())) {
      return opened.status();
    }
    if (!opened.ok() || (*opened)->size() != segment.size_bytes) {
      return absl::DataLossError(absl::StrCat(
          label_, ": blob ", segment.digest.hex(), " of ", segment.size_bytes,
          " bytes ",
          opened.ok() ? absl::StrCat("has ", (*opened)->size(), " bytes")
                      : std::string("is missing")));
    }
    SharedSource source = *std::move(opened);
    MutexLock lock(mutex_);
    open_ = source;
    open_index_ = index;
    return source;
  }

  const BlobStore& blobs_;
  const std::string label_;
  const std::vector<BlobSegment> segments_;
  std::vector<int64_t> ends_;
  int64_t size_ = 0;
  mutable Mutex mutex_;
  // The blob read last; shared with the reads that are under way.
  mutable SharedSource open_ ABSL_GUARDED_BY(mutex_);
  mutable size_t open_index_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

std::unique_ptr<ByteSource> MakeSegmentSource(
    const BlobStore& blobs, std::string label,
    std::vector<BlobSegment> segments) {
  return std::make_unique<SegmentSource>(blobs, std::move(label),
                                         std::move(segments));
}

}  // namespace cairn
