#ifndef CAIRN_CORE_BASE_FILE_HASHER_H_
#define CAIRN_CORE_BASE_FILE_HASHER_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "core/base/digest.h"
#include "core/base/lane_hasher.h"

namespace cairn {

// Both digests that a published file has, of its bytes from front to back. Not
// thread-safe.
class FileHasher {
 public:
  // `size`: all bytes of the file, which git hashes first.
  explicit FileHasher(int64_t size) : git_(GitBlobHasher(size)) {}

  void Update(absl::string_view bytes) {
    sha256_.Update(bytes);
    git_.Update(bytes);
  }
  // The same; `part` takes the bytes as well, at little more than the cost of
  // one SHA-256.
  void UpdateBeside(LaneHasher& part, absl::string_view bytes) {
    LaneHasher::UpdateAll({{&part, bytes}, {&sha256_, bytes}});
    git_.Update(bytes);
  }

  std::string FinishSha256() { return sha256_.Finish().hex(); }
  std::string FinishGitSha1() { return git_.FinishHex(); }

 private:
  LaneHasher sha256_;
  Hasher git_;
};

}  // namespace cairn

#endif  // CAIRN_CORE_BASE_FILE_HASHER_H_
