// A hub's parts, killed at every step of storing, packing, publishing and
// sweeping, over and over on the same directory: whatever was acknowledged is
// there afterwards, whatever is visible is whole, and all work goes on.
// CAIRN_SEED and CAIRN_KILLS choose the plan and how long it is.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <iostream>
#include <map>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/failpoint.h"
#include "core/base/log.h"
#include "tests/fault/hub_parts.h"
#include "tests/fault/ledger.h"

namespace cairn::testing {
namespace {

namespace fs = std::filesystem;

constexpr int kOperations = 12;  // of each thread in a round
constexpr int kRoundsPerDirectory = 25;
constexpr absl::Duration kGrace = absl::Hours(24);
// A child that hangs is a failure, not a wait.
constexpr unsigned kChildSeconds = 60;

int64_t FromEnvironment(const char* name, int64_t otherwise) {
  const char* given = std::getenv(name);
  int64_t number = otherwise;
  if (given != nullptr) CAIRN_CHECK(absl::SimpleAtoi(given, &number));
  return number;
}

// Runs `work` in a process of its own; 0, or what ended it: 1 for a failed
// expectation, 128 + signal. This process must have no threads.
int InChild(const std::function<void()>& work) {
  std::cout.flush();
  std::cerr.flush();
  const pid_t pid = fork();
  CAIRN_CHECK(pid >= 0);
  if (pid == 0) {
    alarm(kChildSeconds);
    work();
    std::cout.flush();
    std::cerr.flush();
    _exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  CAIRN_CHECK(waitpid(pid, &status, 0) == pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// Like BF16 weights, so that packing pays.
std::string ContentOf(uint64_t seed) {
  std::string bytes = HubParts::Bytes(seed, 1000 + seed * 7919 % 400'000);
  for (size_t i = 1; i < bytes.size(); i += 2) {
    bytes[i] = static_cast<char>(0x3c | (bytes[i] & 3));
  }
  return bytes;
}

v1::BeginUploadRequest RequestOf(uint64_t seed, const std::string& content) {
  v1::BeginUploadRequest request;
  request.set_size_bytes(static_cast<int64_t>(content.size()));
  request.set_request_id(absl::StrCat("upload-", seed));
  // Half of them say only at the end what they are.
  if (seed % 2 == 0) request.set_sha256(Digest::Of(content).hex());
  return request;
}

// One of the threads that use a hub until it dies.
class User {
 public:
  User(HubParts& hub, Ledger& ledger, uint64_t seed)
      : hub_(hub), ledger_(ledger), seed_(seed * 1000), random_(seed) {}

  // Sends new uploads and `left` ones, in streams of some chunks.
  void SendUploads(std::vector<uint64_t> left) {
    for (int i = 0; i < kOperations; ++i) {
      uint64_t seed = ++seed_;
      if (!left.empty()) {
        seed = left.back();
        left.pop_back();
      }
      if (Upto(4) == 0) {
        SendBatch(seed);
      } else {
        SendUpload(seed);
      }
    }
  }

  void Publish() {
    for (int i = 0; i < kOperations / 4; ++i) {
      const std::string id = absl::StrCat("m", ++seed_);
      auto model = hub_.CreateModel(id, static_cast<float>(i));
      ASSERT_TRUE(model.ok()) << model.status();
      ledger_.Model(id, DigestOf(model->head()));
      for (int merge = 0; merge < 2; ++merge) {
        auto release =
            hub_.Merge(model->name(), static_cast<float>(10 * i + merge));
        ASSERT_TRUE(release.ok()) << release.status();
        ledger_.Release(*release, DigestOf(*release));
      }
    }
  }

  void Pack() {
    for (int i = 0; i < 4; ++i) {
      absl::Status packed = hub_.Pack();
      ASSERT_TRUE(packed.ok()) << packed;
    }
  }

  void Sweep() {
    for (int i = 0; i < 4; ++i) {
      auto swept = hub_.Sweep(kGrace);
      ASSERT_TRUE(swept.ok()) << swept.status();
    }
  }

 private:
  int Upto(int most) { return static_cast<int>(random_() % (most + 1)); }

  std::string DigestOf(const std::string& release) {
    return hub_.store()
        .Read()
        .Get<store::v1::ReleaseRecord>(release)
        ->release()
        .digest();
  }

  void SendBatch(uint64_t seed) {
    std::vector<std::string> blobs;
    for (int i = Upto(3); i >= 0; --i) {
      blobs.push_back(HubParts::Bytes(seed + static_cast<uint64_t>(i) * 977,
                                      10 + static_cast<size_t>(Upto(20'000))));
    }
    absl::Status sent = hub_.Send(blobs);
    ASSERT_TRUE(sent.ok()) << sent;
    for (const std::string& bytes : blobs) {
      ledger_.Stored(Digest::Of(bytes).hex(),
                     static_cast<int64_t>(bytes.size()));
    }
  }

  void SendUpload(uint64_t seed) {
    const std::string content = ContentOf(seed);
    auto upload = hub_.uploads().Begin(hub_.caller(), RequestOf(seed, content));
    ASSERT_TRUE(upload.ok()) << upload.status();
    if (!upload->complete()) {
      ledger_.Begun(seed, upload->name());
      const auto size = static_cast<int64_t>(content.size());
      while (upload->committed_bytes() < size) {
        if (Upto(12) == 0) return;  // the rest another time
        SendStream(seed, content, *upload);
        if (::testing::Test::HasFailure()) return;
      }
      if (Upto(12) == 0) {
        ledger_.Cancelling(seed);
        absl::Status cancelled =
            hub_.uploads().Cancel(hub_.caller(), upload->name());
        ASSERT_TRUE(cancelled.ok()) << cancelled;
        return;
      }
      ledger_.Finishing(seed);
      v1::FinishUploadRequest finish;
      finish.set_name(upload->name());
      finish.set_sha256(Digest::Of(content).hex());
      auto blob = hub_.uploads().Finish(hub_.caller(), finish);
      ASSERT_TRUE(blob.ok()) << blob.status();
    }
    ledger_.Stored(Digest::Of(content).hex(),
                   static_cast<int64_t>(content.size()));
  }

  // Some chunks from a little before where it stands.
  void SendStream(uint64_t seed, const std::string& content,
                  v1::Upload& upload) {
    auto stream = hub_.uploads().OpenStream(hub_.caller(), upload.name());
    ASSERT_TRUE(stream.ok()) << stream.status();
    auto at = static_cast<size_t>(upload.committed_bytes());
    at -= std::min<size_t>(at, static_cast<size_t>(Upto(30'000)));
    for (int i = Upto(4); i >= 0 && at < content.size(); --i) {
      const std::string chunk =
          content.substr(at, 1 + static_cast<size_t>(Upto(60'000)));
      absl::Status written =
          WriteChunk(**stream, static_cast<int64_t>(at), chunk);
      ASSERT_TRUE(written.ok()) << written;
      at += chunk.size();
    }
    auto ended = (*stream)->End();
    ASSERT_TRUE(ended.ok()) << ended.status();
    ASSERT_GE(ended->committed_bytes(), upload.committed_bytes());
    upload.set_committed_bytes(ended->committed_bytes());
    ledger_.Committed(seed, ended->committed_bytes());
  }

  HubParts& hub_;
  Ledger& ledger_;
  uint64_t seed_;
  std::mt19937_64 random_;
};

// Whether everything that was acknowledged is there, and what is there whole.
class Inspector {
 public:
  Inspector(HubParts& hub, const Ledger::Facts& facts)
      : hub_(hub), facts_(facts) {}

  void Inspect() {
    CheckBlobs();
    CheckUploads();
    for (const auto& [id, digest] : facts_.models) {
      CheckRelease(absl::StrCat("models/", id, "/releases/v1.0.0"), digest);
    }
    for (const auto& [name, digest] : facts_.releases) {
      CheckRelease(name, digest);
    }
    auto report = hub_.Check();
    ASSERT_TRUE(report.ok()) << report.status();
    for (const std::string& problem : report->problems()) {
      ADD_FAILURE() << problem;
    }
  }

 private:
  void CheckBlobs() {
    absl::Status listed = hub_.blobs().List([&](const BlobStat& stat) {
      auto source = hub_.blobs().Open(stat.digest);
      EXPECT_TRUE(source.ok()) << source.status();
      if (!source.ok()) return true;
      auto bytes = ReadAll(**source, int64_t{1} << 30);
      EXPECT_TRUE(bytes.ok()) << bytes.status();
      EXPECT_TRUE(bytes.ok() && Digest::Of(*bytes) == stat.digest)
          << "half a blob is visible: " << stat.digest.hex();
      return true;
    });
    EXPECT_TRUE(listed.ok()) << listed;
    v1::FindMissingRequest request;
    for (const auto& [sha256, size] : facts_.blobs) {
      request.add_sha256(sha256);
      auto stat = hub_.blobs().Stat(*Digest::Parse(sha256));
      EXPECT_TRUE(stat.ok()) << "acknowledged and lost: " << stat.status();
      if (stat.ok()) {
        EXPECT_EQ(stat->size_bytes, size);
      }
    }
    auto missing = hub_.uploads().FindMissing(hub_.caller(), request);
    ASSERT_TRUE(missing.ok()) << missing.status();
    EXPECT_EQ(missing->missing_size(), 0) << "an owner was lost";
  }

  void CheckUploads() {
    for (const auto& [seed, upload] : facts_.uploads) {
      const std::string content = ContentOf(seed);
      const std::string sha256 = Digest::Of(content).hex();
      if (upload.is_cancelling || facts_.blobs.contains(sha256)) continue;
      SCOPED_TRACE(absl::StrCat("upload ", seed));
      auto now = hub_.uploads().Get(hub_.caller(), upload.name);
      if (now.ok()) {
        EXPECT_GE(now->committed_bytes(), upload.committed) << "it went back";
      } else {
        EXPECT_TRUE(upload.is_finishing) << now.status();
      }
      if (!upload.is_finishing) continue;
      v1::FinishUploadRequest finish;
      finish.set_name(upload.name);
      finish.set_sha256(sha256);
      auto finished = hub_.uploads().Finish(hub_.caller(), finish);
      EXPECT_TRUE(finished.ok()) << finished.status();
    }
  }

  void CheckRelease(const std::string& name, const std::string& digest) {
    auto release = hub_.store().Read().Get<store::v1::ReleaseRecord>(name);
    ASSERT_TRUE(release.ok()) << "acknowledged and lost: " << release.status();
    EXPECT_EQ(release->release().digest(), digest) << name;
  }

  HubParts& hub_;
  const Ledger::Facts& facts_;
};

// Makes every blob look as if it had been stored days ago.
void MakeBlobsOld(const std::string& directory) {
  const timespec old = absl::ToTimespec(absl::Now() - 2 * kGrace);
  const timespec times[2] = {old, old};
  const fs::path blobs = fs::path(directory) / "blobs";
  if (!fs::exists(blobs)) return;
  for (const auto& entry : fs::recursive_directory_iterator(blobs)) {
    if (!entry.is_regular_file()) continue;
    CAIRN_CHECK(utimensat(AT_FDCWD, entry.path().c_str(), times, 0) == 0);
  }
}

class FailpointKillTest : public ::testing::Test {
 protected:
  FailpointKillTest() {
    char name[] = "/tmp/cairn-failpoint-XXXXXX";
    root_ = mkdtemp(name);
  }
  ~FailpointKillTest() override { fs::remove_all(root_); }

  std::string directory() const {
    return absl::StrCat(root_, "/", round_ / kRoundsPerDirectory);
  }
  std::string ledger() const { return directory() + ".ledger"; }

  // All that happens to a hub between its start and its end.
  void Live(const std::string& plan, uint64_t seed) {
    const Ledger::Facts facts = Ledger::Read(ledger());
    Ledger book(ledger());
    // A third of the rounds, whatever step is theirs.
    if (std::mt19937_64(seed)() % 3 == 0) {
      book.Aged();
      MakeBlobsOld(directory());
    }
    ASSERT_TRUE(ArmFailpoints(plan).ok());
    auto hub = HubParts::Open(directory());
    ASSERT_TRUE(hub.ok()) << hub.status();
    std::vector<uint64_t> left[2];
    for (const auto& [upload, state] : facts.uploads) {
      if (!state.is_finishing && !state.is_cancelling)
        left[upload % 2].push_back(upload);
    }
    std::vector<std::jthread> users;
    for (uint64_t i : {0, 1}) {
      users.emplace_back(
          [&, i] { User(**hub, book, seed * 10 + i).SendUploads(left[i]); });
    }
    users.emplace_back([&] { User(**hub, book, seed * 10 + 2).Publish(); });
    users.emplace_back([&] { User(**hub, book, seed * 10 + 3).Sweep(); });
    users.emplace_back([&] { User(**hub, book, seed * 10 + 4).Pack(); });
  }

  void Look() {
    auto hub = HubParts::Open(directory());
    ASSERT_TRUE(hub.ok()) << hub.status();
    const Ledger::Facts facts = Ledger::Read(ledger());
    Inspector(**hub, facts).Inspect();
  }

  std::string root_;
  int round_ = 0;
};

// Steps that only a whole hub with a worker reaches.
bool NeedsAWorker(absl::string_view name) {
  return name == "contribution.created" || name == "release.published";
}

// Steps that a round reaches dozens of times.
bool IsFrequent(absl::string_view name) {
  return absl::StartsWith(name, "file.") || absl::StartsWith(name, "store.") ||
         name == "upload.written";
}

TEST_F(FailpointKillTest, NothingAcknowledgedIsLostAndNothingHalfIsVisible) {
  const auto seed = static_cast<uint64_t>(FromEnvironment("CAIRN_SEED", 20263));
  const int64_t kills = FromEnvironment("CAIRN_KILLS", 20);
  SCOPED_TRACE(absl::StrCat("CAIRN_SEED=", seed));
  std::mt19937_64 random(seed);
  std::vector<std::string> points;
  for (const char* name : kFailpointNames) {
    if (!NeedsAWorker(name)) points.emplace_back(name);
  }
  std::map<std::string, int> killed_at;
  int64_t killed = 0;
  for (; killed < kills && round_ < 4 * kills; ++round_) {
    const std::string& point =
        points[static_cast<size_t>(round_) % points.size()];
    const uint64_t hit = 1 + random() % (IsFrequent(point) ? 50 : 2);
    const std::string plan = absl::StrCat(point, "=crash@", hit);
    SCOPED_TRACE(absl::StrCat("round ", round_, ", ", plan));
    const int end =
        InChild([&] { Live(plan, seed + static_cast<uint64_t>(round_)); });
    ASSERT_TRUE(end == 0 || end == 128 + SIGKILL) << "ended with " << end;
    if (end != 0) {
      ++killed;
      ++killed_at[point];
    }
    ASSERT_EQ(InChild([&] { Look(); }), 0);
  }
  EXPECT_EQ(killed, kills);
  std::cout << killed << " kills in " << round_ << " rounds\n";
  for (const std::string& point : points) {
    std::cout << "  " << point << " " << killed_at[point] << "\n";
    if (kills >= 200) {
      EXPECT_GT(killed_at[point], 0) << point;
    }
  }
}

}  // namespace
}  // namespace cairn::testing
