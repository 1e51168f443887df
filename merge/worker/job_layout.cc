#include "merge/worker/job_layout.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace cairn {

std::string JobLayout::Release(absl::string_view digest) const {
  return absl::StrCat(releases_, "/", absl::StripPrefix(digest, "sha256:"));
}

std::string JobLayout::Blob(absl::string_view sha256) const {
  return absl::StrCat(blob_directory(), "/", sha256);
}

std::string JobLayout::Update(size_t index) const {
  return absl::StrCat(job_, "/updates/", index);
}

std::string JobLayout::Suite(size_t index) const {
  return absl::StrCat(job_, "/suites/", index);
}

}  // namespace cairn
