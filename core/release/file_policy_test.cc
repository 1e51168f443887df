#include "core/release/file_policy.h"

#include <gtest/gtest.h>

#include <string>

#include "core/base/status_util.h"

namespace cairn {
namespace {

std::string ReasonOf(const absl::Status& status) {
  auto reason = GetReason(status);
  return reason.has_value() ? reason->code : std::string(status.ToString());
}

TEST(FilePolicyTest, AllowsWhatAModelNeeds) {
  for (const char* path :
       {"config.json", "generation_config.json", "tokenizer.json",
        "tokenizer_config.json", "model.safetensors",
        "model-00001-of-00003.safetensors", "model.safetensors.index.json",
        "README.md", "LICENSE", "LICENSE.txt", "chat_template.jinja",
        "torchscript.pt"}) {
    EXPECT_TRUE(CheckReleaseFile(path).ok()) << path;
  }
}

TEST(FilePolicyTest, RefusesCodePicklesAndPathsThatLeave) {
  for (const char* path :
       {"modeling.py", "pytorch_model.bin", "model.pt", "model.pkl",
        "../config.json", "/config.json", "a/../config.json", "sub/config.json",
        "LICENSE.py", "config.json\n", "a\\b.safetensors", "", ".",
        ".safetensors", "cairn-release.json", "training_args.bin"}) {
    EXPECT_EQ(ReasonOf(CheckReleaseFile(path)), "FORBIDDEN_FILE") << path;
  }
}

TEST(FilePolicyTest, RefusesAConfigThatAsksForCode) {
  EXPECT_TRUE(CheckConfig("{\"hidden_size\": 4}", "config.json").ok());
  EXPECT_EQ(ReasonOf(CheckConfig("{\"auto_map\": {}}", "config.json")),
            "FORBIDDEN_FILE");
  EXPECT_EQ(ReasonOf(CheckConfig("[]", "config.json")), "MALFORMED_FILE");
}

TEST(FilePolicyTest, ChecksResourceIds) {
  for (const char* id : {"byte-llama", "a", "7b", "m.v2_x"}) {
    EXPECT_TRUE(CheckResourceId(id, "model").ok()) << id;
  }
  for (const char* id : {"", "-a", ".a", "A", "a b", "a/b", "é"}) {
    EXPECT_FALSE(CheckResourceId(id, "model").ok()) << id;
  }
  EXPECT_FALSE(CheckResourceId(std::string(65, 'a'), "model").ok());
}

}  // namespace
}  // namespace cairn
