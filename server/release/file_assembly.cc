#include "server/release/file_assembly.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/status_macros.h"
#include "storage/segment_source.h"

namespace cairn {
namespace {

constexpr int64_t kTileBytes = 1 << 20;

}  // namespace

absl::StatusOr<SharedSource> OpenAssembled(
    const BlobStore& blobs, const store::v1::FileSegments& file) {
  std::vector<BlobSegment> segments;
  segments.reserve(static_cast<size_t>(file.segments_size()));
  for (const store::v1::Segment& segment : file.segments()) {
    CAIRN_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(segment.sha256()));
    auto stat = blobs.Stat(digest);
    if (!stat.ok() || stat->size_bytes != segment.size_bytes()) {
      return absl::DataLossError(absl::StrCat(
          file.path(), ": blob ", segment.sha256(), " of ",
          segment.size_bytes(), " bytes ",
          stat.ok() ? absl::StrCat("has ", stat->size_bytes, " bytes")
                    : std::string(stat.status().message())));
    }
    segments.push_back({.digest = digest, .size_bytes = segment.size_bytes()});
  }
  return SharedSource(
      MakeSegmentSource(blobs, file.path(), std::move(segments)));
}

absl::StatusOr<v1::File> DescribeFile(const std::string& path,
                                      const ByteSource& source) {
  Hasher sha256;
  Hasher git_sha1 = GitBlobHasher(source.size());
  std::vector<char> tile(
      static_cast<size_t>(std::min(kTileBytes, source.size())));
  for (int64_t at = 0; at < source.size();) {
    int64_t size = std::min(kTileBytes, source.size() - at);
    absl::Span<char> part(tile.data(), static_cast<size_t>(size));
    CAIRN_RETURN_IF_ERROR(source.ReadAt(at, part));
    absl::string_view bytes(part.data(), part.size());
    sha256.Update(bytes);
    git_sha1.Update(bytes);
    at += size;
  }
  v1::File file;
  file.set_path(path);
  file.set_size_bytes(source.size());
  file.set_sha256(sha256.FinishHex());
  file.set_git_sha1(git_sha1.FinishHex());
  return file;
}

}  // namespace cairn
