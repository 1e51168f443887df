// The care of a hub's bytes from the outside: damage on the disk, backups
// while the hub runs, and a restored hub that goes on.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "core/base/testing/temporary_directory.h"
#include "core/tensor/safetensors.h"
#include "tests/support/live_hub.h"

namespace cairn::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class StoreCareTest : public ::testing::Test {
 protected:
  StoreCareTest() {
    WriteCheckpoint();
    hub_ = std::make_unique<LiveHub>(root_);
    hub_->Start();
    hub_->AddPerson("ada", "maintainer");
    Must("ada", {"model", "create", "tiny", "--from", root_ + "/checkpoint",
                 "--license", "MIT"});
  }

  void WriteCheckpoint() {
    const std::string directory = root_ + "/checkpoint";
    fs::create_directories(directory);
    auto writer = SafetensorsWriter::Create(
        directory + "/model.safetensors", {{"w", DType::kF32, {300, 100}}}, {});
    ASSERT_TRUE(writer.ok()) << writer.status();
    const std::string bytes(300 * 100 * 4, 'w');
    ASSERT_TRUE((*writer)->Write("w", 0, bytes).ok());
    ASSERT_TRUE(std::move(**writer).Finish().ok());
    std::ofstream(directory + "/config.json")
        << R"({"architectures": ["LlamaForCausalLM"]})";
  }
  nlohmann::json Must(const std::string& person,
                      const std::vector<std::string>& args) {
    CommandResult done = hub_->Run(person, args);
    EXPECT_EQ(done.code, 0) << args[0] << " " << args[1] << ": " << done.err;
    return done.json();
  }
  // The stored tensor.
  fs::path TensorBlob() {
    for (const auto& entry :
         fs::recursive_directory_iterator(root_ + "/hub/blobs/blobs")) {
      if (entry.is_regular_file() && entry.file_size() == 120'000) {
        return entry.path();
      }
    }
    ADD_FAILURE() << "no blob of the tensor";
    return {};
  }

  const TemporaryDirectory scratch_;
  const std::string root_ = scratch_.path();
  std::unique_ptr<LiveHub> hub_;
};

TEST_F(StoreCareTest, FlippedBitIsReportedWithWhatItHits) {
  Must("ada", {"admin", "check", "--read-blobs"});
  const fs::path blob = TensorBlob();
  {
    std::fstream file(blob, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(70'000);
    file.put('v');
  }
  CommandResult check = hub_->Run("ada", {"admin", "check", "--read-blobs"});
  EXPECT_EQ(check.code, 7);
  EXPECT_THAT(check.out, HasSubstr("models/tiny/releases/v1.0.0"));
  EXPECT_THAT(check.out, HasSubstr(blob.filename().string()));
  CommandResult pull = hub_->Run("ada", {"pull", "tiny", root_ + "/pulled"});
  EXPECT_EQ(pull.code, 7) << pull.err;
}

TEST_F(StoreCareTest, RestoredHubGoesOn) {
  auto stats = Must("admin", {"admin", "stats"});
  EXPECT_EQ(stats.at("models").at(0).at("name"), "models/tiny");
  const std::string backup = root_ + "/backup";
  auto report = Must("admin", {"admin", "backup", backup});
  EXPECT_GT(std::stoi(report.at("newBlobs").get<std::string>()), 0);
  EXPECT_EQ(hub_->Run("ada", {"admin", "backup", backup}).code, 4)
      << "a maintainer may not";
  EXPECT_EQ(hub_->Run("admin", {"admin", "backup", root_ + "/hub/b"}).code, 1);
  report = Must("admin", {"admin", "backup", backup});
  EXPECT_EQ(report.at("newBlobs"), "0");

  ASSERT_EQ(hub_->Stop(), 0);
  CommandResult refused = hub_->Run(
      "admin", {"admin", "restore", backup, "--data-dir", root_ + "/hub"});
  EXPECT_EQ(refused.code, 5) << refused.err;
  fs::rename(root_ + "/hub", root_ + "/lost");
  Must("ada", {"admin", "restore", backup, "--data-dir", root_ + "/hub"});
  hub_->Start();
  Must("ada", {"admin", "check", "--read-blobs"});
  Must("ada", {"pull", "tiny", root_ + "/pulled"});
  Must("ada", {"verify", root_ + "/pulled"});
  Must("admin", {"admin", "user", "list"});
}

}  // namespace
}  // namespace cairn::testing
