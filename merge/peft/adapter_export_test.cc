#include "merge/peft/adapter_export.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status_util.h"
#include "core/tensor/safetensors.h"
#include "core/update/update.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

class AdapterExportTest : public ::testing::Test {
 protected:
  AdapterExportTest() {
    std::string pattern = fs::temp_directory_path() / "export.XXXXXX";
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    scratch_ = pattern;
  }
  ~AdapterExportTest() override { fs::remove_all(scratch_); }

  // A LoRA of rank 1 on one square module.
  WeightedAdapter Lora(const std::string& module, bool is_transposed) {
    const std::string directory = scratch_ / absl::StrCat(module, is_transposed);
    const std::string key = "base_model.model." + module;
    EXPECT_TRUE(MakeDirectory(directory).ok());
    const auto layout =
        LayOutSafetensors({{key + ".lora_A.weight", DType::kF32, {1, 2}},
                           {key + ".lora_B.weight", DType::kF32, {2, 1}}},
                          {});
    std::string bytes(16, '\0');
    FromFloats(DType::kF32, std::vector<float>{1, 2, 3, 4},
               absl::MakeSpan(&bytes[0], bytes.size()));
    EXPECT_TRUE(WriteFile(absl::StrCat(directory, "/", kAdapterWeightsFile),
                          layout->header + bytes)
                    .ok());
    EXPECT_TRUE(
        WriteFile(absl::StrCat(directory, "/", kAdapterConfigFile),
                  absl::StrCat(R"({"peft_type":"LORA","r":1,"lora_alpha":1,)",
                               R"("fan_in_fan_out":)",
                               is_transposed ? "true" : "false", "}"))
            .ok());
    return {.directory = directory, .weight = 1};
  }

  absl::Status Export(const std::vector<WeightedAdapter>& adapters) {
    const std::string out = scratch_ / "out";
    EXPECT_TRUE(MakeDirectory(out).ok());
    return ExportLora(adapters, LoraCombination(), std::nullopt, out).status();
  }

  fs::path scratch_;
};

// A configuration says fan_in_fan_out for all modules or for none.
TEST_F(AdapterExportTest, ModulesStoredBothWaysAreRefusedAsOne) {
  const absl::Status mixed = Export({Lora("a", true), Lora("b", false)});
  EXPECT_EQ(GetReason(mixed)->code, "UNSUPPORTED");
  for (const char* part : {"module a", "b without it", "fan_in_fan_out"}) {
    EXPECT_TRUE(absl::StrContains(mixed.message(), part)) << mixed;
  }
  EXPECT_FALSE(fs::exists(scratch_ / "out" / kAdapterWeightsFile));
  ASSERT_TRUE(Export({Lora("a", true), Lora("b", true)}).ok());
  EXPECT_TRUE(absl::StrContains(
      ReadFile(scratch_ / "out" / kAdapterConfigFile).value(),
      "\"fan_in_fan_out\": true"));
  ASSERT_TRUE(Export({Lora("a", false), Lora("b", false)}).ok());
  EXPECT_TRUE(absl::StrContains(
      ReadFile(scratch_ / "out" / kAdapterConfigFile).value(),
      "\"fan_in_fan_out\": false"));
}

}  // namespace
}  // namespace cairn
