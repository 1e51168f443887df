#include "server/flow/stored_files.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"

namespace cairn {

absl::StatusOr<FileMap> OpenStoredFiles(
    const BlobStore& blobs,
    const google::protobuf::RepeatedPtrField<v1::File>& files) {
  FileMap opened;
  for (const v1::File& file : files) {
    CAIRN_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(file.sha256()));
    auto source = blobs.Open(digest);
    if (!source.ok()) {
      return Annotate(source.status(), absl::StrCat("file ", file.path()));
    }
    if ((*source)->size() != file.size_bytes()) {
      return ReasonedError(
          absl::StatusCode::kInvalidArgument, "MALFORMED_FILE",
          absl::StrCat("file ", file.path(), " is said to have ",
                       file.size_bytes(), " bytes, but its blob ",
                       file.sha256(), " has ", (*source)->size()),
          {{"file", file.path()}});
    }
    opened[file.path()] = SharedSource(*std::move(source));
  }
  return opened;
}

absl::StatusOr<std::string> ReadConfig(const BlobStore& blobs,
                                       const v1::Release& release) {
  constexpr int64_t kConfigBytesMax = 1 << 20;
  for (const v1::File& file : release.files()) {
    if (file.path() != "config.json") continue;
    CAIRN_ASSIGN_OR_RETURN(const Digest digest, Digest::Parse(file.sha256()));
    CAIRN_ASSIGN_OR_RETURN(const auto source, blobs.Open(digest));
    return ReadAll(*source, kConfigBytesMax);
  }
  return std::string();
}

}  // namespace cairn
