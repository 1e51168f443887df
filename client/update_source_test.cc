#include "client/update_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "core/base/file.h"
#include "core/base/status_util.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;

class UpdateSourceTest : public ::testing::Test {
 protected:
  UpdateSourceTest() {
    char name[] = "/tmp/cairn-source-test-XXXXXX";
    directory_ = mkdtemp(name);
  }
  ~UpdateSourceTest() override { std::filesystem::remove_all(directory_); }
  void Put(const std::string& name, const std::string& text = "{}") {
    ASSERT_TRUE(WriteFile(directory_ + "/" + name, text).ok());
  }

  std::string directory_;
};

TEST_F(UpdateSourceTest, TakesOnlyTheAdapterOfATrainersFolder) {
  Put("adapter_config.json",
      R"({"base_model_name_or_path": "/b", "revision": "v1.0.0"})");
  Put("adapter_model.safetensors");
  Put("optimizer.pt");
  Put("trainer.py");
  auto source = OpenUpdateSource(directory_);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(source->kind, UpdateSource::Kind::kPeft);
  EXPECT_EQ(source->files.size(), 2u);
  EXPECT_THAT(source->left_out, ElementsAre("optimizer.pt", "trainer.py"));
  EXPECT_EQ(source->base_path, "/b");
  EXPECT_EQ(source->base_revision, "v1.0.0");
}

TEST_F(UpdateSourceTest, AnUpdateMayBeNamedByItsFile) {
  Put("cairn-update.safetensors");
  auto source = OpenUpdateSource(directory_ + "/cairn-update.safetensors");
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(source->kind, UpdateSource::Kind::kCairn);
}

TEST_F(UpdateSourceTest, ACheckpointLeavesCodeBehind) {
  Put("model.safetensors");
  Put("config.json", R"({"_name_or_path": "/base"})");
  Put("modeling.py");
  auto source = OpenUpdateSource(directory_);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(source->kind, UpdateSource::Kind::kCheckpoint);
  EXPECT_EQ(source->base_path, "/base");
  EXPECT_THAT(source->left_out, ElementsAre("modeling.py"));
}

TEST_F(UpdateSourceTest, RefusesWhatIsNoUpdate) {
  EXPECT_TRUE(absl::IsNotFound(OpenUpdateSource(directory_ + "/no").status()));
  Put("readme.txt");
  EXPECT_EQ(GetReason(OpenUpdateSource(directory_).status())->code,
            "UNKNOWN_FORMAT");
  EXPECT_EQ(
      GetReason(OpenUpdateSource(directory_ + "/readme.txt").status())->code,
      "UNKNOWN_FORMAT");
  Put("adapter_config.json");
  Put("adapter_model.bin");
  EXPECT_EQ(GetReason(OpenUpdateSource(directory_).status())->code,
            "UNSUPPORTED");
}

}  // namespace
}  // namespace cairn
