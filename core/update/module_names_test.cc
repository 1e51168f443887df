#include "core/update/module_names.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

TEST(ModuleNamesTest, TranslatesModulesAndParametersBothWays) {
  const std::pair<const char*, const char*> names[] = {
      {"vit.encoder.layer.0.attention.attention.query",
       "vit.layers.0.attention.q_proj"},
      {"vit.encoder.layer.11.attention.attention.key.bias",
       "vit.layers.11.attention.k_proj.bias"},
      {"vit.encoder.layer.3.attention.attention.value",
       "vit.layers.3.attention.v_proj"},
      {"vit.encoder.layer.3.attention.output.dense.weight",
       "vit.layers.3.attention.o_proj.weight"},
      {"vit.encoder.layer.3.intermediate.dense", "vit.layers.3.mlp.fc1"},
      {"vit.encoder.layer.3.output.dense", "vit.layers.3.mlp.fc2"},
      {"vit.encoder.layer.3.layernorm_before.weight",
       "vit.layers.3.layernorm_before.weight"},
  };
  for (const auto& [in_files, in_memory] : names) {
    EXPECT_EQ(NameInFiles(in_memory), in_files);
    EXPECT_EQ(NameInMemory(in_files), in_memory);
    EXPECT_EQ(NameInFiles(in_files), in_files);
    EXPECT_EQ(NameInMemory(in_memory), in_memory);
  }
}

TEST(ModuleNamesTest, LeavesOtherNamesAlone) {
  for (const char* name :
       {"", "classifier", "vit.layernorm.weight", "vit.layers", "vit.layers.",
        "vit.layers.x.attention.q_proj", "vit.layers.1",
        "model.layers.0.self_attn.q_proj",
        "vision_model.encoder.layers.0.mlp.fc1",
        "bert.encoder.layer.0.output.dense"}) {
    EXPECT_EQ(NameInFiles(name), name);
    EXPECT_EQ(NameInMemory(name), name);
  }
  // Only whole names of modules are translated.
  EXPECT_EQ(NameInFiles("vit.layers.0.mlp.fc10"),
            "vit.encoder.layer.0.mlp.fc10");
}

}  // namespace
}  // namespace cairn
