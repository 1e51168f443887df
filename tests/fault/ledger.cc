#include "tests/fault/ledger.h"

#include <fcntl.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "core/base/log.h"

namespace cairn::testing {

Ledger::Ledger(const std::string& path)
    : fd_(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)) {
  CAIRN_CHECK(fd_ >= 0);
}

Ledger::~Ledger() { close(fd_); }

// One write() of a short line: whole or not there, whoever else writes.
void Ledger::Write(const std::string& line) {
  const std::string text = line + "\n";
  CAIRN_CHECK(write(fd_, text.data(), text.size()) ==
              static_cast<ssize_t>(text.size()));
}

void Ledger::Begun(uint64_t seed, const std::string& name) {
  Write(absl::StrCat("begun ", seed, " ", name));
}
void Ledger::Committed(uint64_t seed, int64_t bytes) {
  Write(absl::StrCat("committed ", seed, " ", bytes));
}
void Ledger::Finishing(uint64_t seed) {
  Write(absl::StrCat("finishing ", seed));
}
void Ledger::Cancelling(uint64_t seed) {
  Write(absl::StrCat("cancelling ", seed));
}
void Ledger::Stored(const std::string& sha256, int64_t size) {
  Write(absl::StrCat("stored ", sha256, " ", size));
}
void Ledger::Aged() { Write("aged"); }
void Ledger::Model(const std::string& id, const std::string& digest) {
  Write(absl::StrCat("model ", id, " ", digest));
}
void Ledger::Release(const std::string& name, const std::string& digest) {
  Write(absl::StrCat("release ", name, " ", digest));
}

Ledger::Facts Ledger::Read(const std::string& path) {
  Facts facts;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string what, key;
    words >> what;
    if (what == "begun") {
      uint64_t seed = 0;
      words >> seed;
      words >> facts.uploads[seed].name;
    } else if (what == "committed") {
      uint64_t seed = 0;
      words >> seed;
      words >> facts.uploads[seed].committed;
    } else if (what == "finishing") {
      uint64_t seed = 0;
      words >> seed;
      facts.uploads[seed].is_finishing = true;
    } else if (what == "cancelling") {
      uint64_t seed = 0;
      words >> seed;
      facts.uploads[seed].is_cancelling = true;
    } else if (what == "stored") {
      words >> key;
      words >> facts.blobs[key];
    } else if (what == "aged") {
      facts.blobs.clear();
      std::erase_if(facts.uploads, [](const auto& upload) {
        return upload.second.is_finishing;
      });
    } else if (what == "model") {
      words >> key;
      words >> facts.models[key];
    } else if (what == "release") {
      words >> key;
      words >> facts.releases[key];
    }
  }
  return facts;
}

}  // namespace cairn::testing
