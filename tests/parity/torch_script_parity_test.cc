// Models that are exported to TorchScript, with the checkpoint's parameters in
// the place of their own. make_torchscript_goldens.py wrote what is compared
// with.
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status_util.h"
#include "merge/eval/continuation.h"
#include "merge/model/load_model.h"
#include "merge/model/parameter_patch.h"
#include "merge/tensor/torch_bridge.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

std::string Root() {
  const char* source = std::getenv("CAIRN_SOURCE_DIR");
  return std::string(source == nullptr ? "." : source) +
         "/tests/testdata/torchscript";
}

// The tensors of one file.
ParameterMap Tensors(const std::string& path) {
  auto checkpoint = Checkpoint::Open(
      {{"config.json", MakeMemorySource("{}")},
       {"model.safetensors", MakeMemorySource(*ReadFile(path))}});
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  ParameterMap out;
  for (const CheckpointTensor& tensor : checkpoint->tensors()) {
    out[tensor.name] = *ReadTensor(**checkpoint->OpenTensor(tensor.name),
                                   tensor.dtype, tensor.shape);
  }
  return out;
}

at::Tensor LogitsOf(const Model& model, const TokenIds& ids) {
  if (model.language() != nullptr) {
    return (*model.language()->Forward(IdTensor(ids).unsqueeze(0)))[0];
  }
  return *model.text_classifier()->Classify(
      {.ids = IdTensor(ids), .mask = {}, .types = {}});
}

class TorchScriptParityTest : public ::testing::TestWithParam<const char*> {};

TEST_P(TorchScriptParityTest, ComputesWhatTransformersDoes) {
  const c10::InferenceMode no_gradients;
  const std::string path = absl::StrCat(Root(), "/", GetParam());
  auto model = LoadModelDirectory(path, {.torch_script = TorchScript::kRun});
  ASSERT_TRUE(model.ok()) << model.status();
  const ParameterMap golden = Tensors(path + "/golden.safetensors");
  const auto texts = nlohmann::json::parse(*ReadFile(Root() + "/texts.json"));
  const auto expect = [&](const char* which) {
    for (size_t i = 0; i < texts.size(); ++i) {
      const at::Tensor expected = golden.at(absl::StrCat(which, ".", i));
      const at::Tensor logits = LogitsOf(**model, texts[i].get<TokenIds>());
      EXPECT_LT((logits - expected).abs().max().item<double>(), 1e-4)
          << which << " " << i;
    }
  };
  expect("base");
  {
    ParameterPatch patch(**model);
    for (const auto& [name, value] : Tensors(path + "/other.safetensors")) {
      ASSERT_TRUE(patch.Set(name, value).ok()) << name;
    }
    expect("other");
  }
  expect("base");
}

TEST_P(TorchScriptParityTest, IsNotRunUnasked) {
  const absl::Status refused =
      LoadModelDirectory(absl::StrCat(Root(), "/", GetParam()), {}).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("torchscript.pt"));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("not supported"));
}

INSTANTIATE_TEST_SUITE_P(Models, TorchScriptParityTest,
                         ::testing::Values("gptj", "albert"));

}  // namespace
}  // namespace cairn
