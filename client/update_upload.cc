#include "client/update_upload.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/hash_source.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/rpc/limits.h"
#include "core/update/manifest.h"
#include "core/update/update.h"

namespace cairn {
namespace {

// What was sent, as lines of a stamp and a digest, the newest last. Only ever
// a hint: nothing is believed that was not hashed or told by the hub.
class SentFiles {
 public:
  explicit SentFiles(std::string path) : path_(std::move(path)) {
    auto text = ReadFile(path_);
    if (!text.ok()) return;
    for (absl::string_view line : absl::StrSplit(*text, '\n')) {
      if (!line.empty()) lines_.emplace_back(line);
    }
  }

  std::optional<Digest> Find(const std::string& stamp) const {
    for (const std::string& line : lines_) {
      const std::vector<std::string> words = absl::StrSplit(line, ' ');
      if (words.size() != 2 || words[0] != stamp) continue;
      auto digest = Digest::Parse(words[1]);
      if (digest.ok()) return *digest;
    }
    return std::nullopt;
  }

  absl::Status Remember(const std::string& stamp, const Digest& digest) {
    std::erase_if(lines_, [&](const std::string& line) {
      return line.compare(0, stamp.size(), stamp) == 0;
    });
    lines_.push_back(absl::StrCat(stamp, " ", digest.hex()));
    while (lines_.size() > kLinesMax) lines_.pop_front();
    return WriteFile(path_, absl::StrCat(absl::StrJoin(lines_, "\n"), "\n"),
                     0600);
  }

 private:
  static constexpr size_t kLinesMax = 200;

  const std::string path_;
  std::deque<std::string> lines_;
};

absl::StatusOr<Digest> SendLargeFile(HubChannel& hub, const ByteSource& source,
                                     const std::string& stamp, SentFiles& sent,
                                     const TransferProgress& progress) {
  if (std::optional<Digest> before = sent.Find(stamp); before.has_value()) {
    CAIRN_ASSIGN_OR_RETURN(bool is_known, IsBlobKnown(hub, *before));
    if (is_known) {
      CAIRN_ASSIGN_OR_RETURN(Digest actual, HashSource(source));
      if (actual == *before) {
        if (progress) progress(source.size());
        return actual;
      }
    }
  }
  CAIRN_ASSIGN_OR_RETURN(Digest digest,
                         UploadUnhashed(hub, source, stamp, progress));
  // A home that cannot be written only loses the hint.
  (void)sent.Remember(stamp, digest);
  return digest;
}

absl::Status SendSmallFiles(HubChannel& hub, const FileMap& files,
                            const std::vector<v1::File>& described,
                            const TransferProgress& progress) {
  std::vector<OutgoingBlob> blobs;
  for (const v1::File& file : described) {
    CAIRN_ASSIGN_OR_RETURN(Digest sha256, Digest::Parse(file.sha256()));
    blobs.push_back({.sha256 = sha256,
                     .size_bytes = file.size_bytes(),
                     .source = files.at(file.path()),
                     .offset = 0});
  }
  return UploadBlobs(hub, blobs, progress);
}

}  // namespace

absl::StatusOr<std::string> StampFiles(const std::string& directory) {
  namespace fs = std::filesystem;
  std::error_code error;
  std::set<std::string> paths;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    paths.insert(entry.path().string());
  }
  if (error) {
    return SystemError(error.value(), absl::StrCat("list ", directory));
  }
  Hasher hasher;
  for (const std::string& path : paths) {
    struct stat info;
    if (stat(path.c_str(), &info) != 0) {
      return SystemError(errno, absl::StrCat("stat ", path));
    }
    if (!S_ISREG(info.st_mode)) continue;
    hasher.Update(absl::StrCat(
        fs::path(path).filename().string(), "\n", info.st_dev, " ", info.st_ino,
        " ", info.st_size, " ", info.st_mtim.tv_sec, " ", info.st_mtim.tv_nsec,
        " ", info.st_ctim.tv_sec, " ", info.st_ctim.tv_nsec, "\n"));
  }
  return hasher.Finish().hex();
}

absl::StatusOr<std::vector<v1::File>> UploadUpdateFiles(
    HubChannel& hub, const Home& home, const FileMap& files,
    const std::string& stamp, const TransferProgress& progress) {
  FileMap small;
  FileMap large;
  for (const auto& [path, source] : files) {
    if (!IsUpdateFile(path)) continue;
    const bool is_large = source->size() >= kSharedUploadBytesMin;
    (is_large ? large : small).emplace(path, source);
  }
  CAIRN_ASSIGN_OR_RETURN(std::vector<v1::File> described,
                         DescribeUpdateFiles(small));
  CAIRN_RETURN_IF_ERROR(SendSmallFiles(hub, small, described, progress));
  SentFiles sent(absl::StrCat(home.path(), "/sent"));
  for (const auto& [path, source] : large) {
    const std::string key = Digest::Of(absl::StrCat(stamp, " ", path)).hex();
    CAIRN_ASSIGN_OR_RETURN(Digest digest,
                           SendLargeFile(hub, *source, key, sent, progress));
    v1::File file;
    file.set_path(path);
    file.set_size_bytes(source->size());
    file.set_sha256(digest.hex());
    described.push_back(std::move(file));
  }
  std::sort(
      described.begin(), described.end(),
      [](const v1::File& a, const v1::File& b) { return a.path() < b.path(); });
  return described;
}

}  // namespace cairn
