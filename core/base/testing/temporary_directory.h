#ifndef CAIRN_CORE_BASE_TESTING_TEMPORARY_DIRECTORY_H_
#define CAIRN_CORE_BASE_TESTING_TEMPORARY_DIRECTORY_H_

#include <filesystem>
#include <string>
#include <system_error>

#include "core/base/log.h"

#include <stdlib.h>

namespace cairn::testing {

// An empty directory that is removed with all it holds at the end.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "cairn-XXXXXX").string();
    CAIRN_CHECK(mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const {
    return path_ + "/" + name;
  }

 private:
  std::string path_;
};

}  // namespace cairn::testing

#endif  // CAIRN_CORE_BASE_TESTING_TEMPORARY_DIRECTORY_H_
