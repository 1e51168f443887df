#ifndef CAIRN_CLIENT_UPDATE_SOURCE_H_
#define CAIRN_CLIENT_UPDATE_SOURCE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/tensor/byte_source.h"

namespace cairn {

// What `cairn push` was pointed at.
struct UpdateSource {
  enum class Kind {
    // A PEFT directory.
    kPeft,
    // A directory (or its file) that `cairn compress` or `train` wrote.
    kCairn,
    // A whole fine-tuned checkpoint: the update is to be made from it.
    kCheckpoint,
  };
  Kind kind = Kind::kPeft;
  std::string directory;
  // The files of the update, or of the checkpoint.
  FileMap files;
  // Files of the directory that are not taken.
  std::vector<std::string> left_out;
  // Where the base was, as the files say: a path or a name; may be empty.
  std::string base_path;
  // Its revision, as the files say; may be empty.
  std::string base_revision;
};

// Looks at a path. NOT_FOUND when nothing is there; INVALID_ARGUMENT with
// reason UNKNOWN_FORMAT or UNSUPPORTED when it is nothing that can be pushed.
absl::StatusOr<UpdateSource> OpenUpdateSource(const std::string& path);

}  // namespace cairn

#endif  // CAIRN_CLIENT_UPDATE_SOURCE_H_
