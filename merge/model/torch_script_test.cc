#include "merge/model/torch_script.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/script.h>

#include <sstream>

#include "core/base/status_util.h"
#include "merge/model/load_model.h"
#include "merge/model/parameter_patch.h"
#include "merge/model/torch_script_graph.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

constexpr char kConfig[] =
    R"({"architectures": ["OddForCausalLM"], "vocab_size": 5,
        "bos_token_id": 0, "eos_token_id": 1, "n_positions": 8})";

// Embeds ids, sums what came before, and goes back to the vocabulary by the
// same table.
torch::jit::Module TiedModule(const std::string& body = R"(
def forward(self, ids):
    hidden = torch.cumsum(torch.embedding(self.inner.table, ids), 1)
    return torch.matmul(hidden, self.head.t()) * self.scale
)") {
  torch::jit::Module inner("Inner");
  const at::Tensor table = at::arange(15, at::kFloat).reshape({5, 3}) / 10;
  inner.register_parameter("table", table, false);
  torch::jit::Module module("Odd");
  module.register_module("inner", inner);
  module.register_parameter("head", table, false);
  module.register_buffer("scale", at::full({1}, 2.0));
  module.define(body);
  return module;
}

SharedSource Saved(const torch::jit::Module& module) {
  std::ostringstream bytes;
  module.save(bytes);
  return MakeMemorySource(bytes.str());
}

at::Tensor Ids(std::vector<int64_t> ids) {
  return at::tensor(ids, at::kLong).unsqueeze(0);
}

// A model whose table is `table`.
std::unique_ptr<Model> Loaded(const at::Tensor& table) {
  auto model =
      MakeTorchScript(kConfig, {{"head", {5, 3}}}, Saved(TiedModule()));
  EXPECT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE((*model)->Fill({{"head", table}}).ok());
  return *std::move(model);
}

at::Tensor Expected(const at::Tensor& table, const at::Tensor& ids) {
  return at::matmul(at::cumsum(at::embedding(table, ids), 1), table.t()) * 2;
}

TEST(TorchScriptTest, RunsWithTheCheckpointsParameters) {
  const c10::InferenceMode no_gradients;
  const at::Tensor table = at::arange(15, at::kFloat).reshape({5, 3}).sin();
  const auto model = Loaded(table);
  ASSERT_NE(model->language(), nullptr);
  const at::Tensor ids = Ids({3, 1, 4, 1});
  const auto logits = model->language()->Forward(ids);
  ASSERT_TRUE(logits.ok()) << logits.status();
  EXPECT_TRUE(logits->equal(Expected(table, ids)));
  // As often as it is run.
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(model->language()->Forward(ids)->equal(*logits));
  }
}

TEST(TorchScriptTest, TiedParametersAreOneAndArePatchedTogether) {
  const c10::InferenceMode no_gradients;
  const at::Tensor table = at::ones({5, 3});
  const auto model = Loaded(table);
  ASSERT_EQ(model->parameter_specs().size(), 1);
  EXPECT_EQ(model->parameter_specs()[0].name, "head");
  const auto copy = model->ShallowCopy();
  const at::Tensor ids = Ids({3, 2});
  {
    ParameterPatch patch(*copy);
    ASSERT_TRUE(patch.Set("head", table * 3).ok());
    EXPECT_TRUE(
        copy->language()->Forward(ids)->equal(Expected(table * 3, ids)));
    EXPECT_TRUE(model->language()->Forward(ids)->equal(Expected(table, ids)));
  }
  EXPECT_TRUE(copy->language()->Forward(ids)->equal(Expected(table, ids)));
}

TEST(TorchScriptTest, CheckpointHasToHaveEveryParameter) {
  auto model =
      MakeTorchScript(kConfig, {{"other", {5, 3}}}, Saved(TiedModule()));
  ASSERT_TRUE(model.ok()) << model.status();
  const absl::Status status = (*model)->CheckTensors({{"other", {5, 3}}});
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("missing"));
}

// Everything that is not a function of input and parameters is refused.
TEST(TorchScriptTest, RefusesWhatReachesOutOfItsInputs) {
  const char* const bodies[] = {
      "def forward(self, ids):\n  return self.head + torch.rand([5, 3])\n",
      "def forward(self, ids):\n  return self.head.normal_()\n",
      "def forward(self, ids):\n  print(ids)\n  return self.head\n",
      "def forward(self, ids):\n"
      "  return torch.from_file('/etc/passwd', False, 3)\n",
      "def forward(self, ids):\n  self.head.add_(1)\n  return self.head\n",
      "def forward(self, ids):\n  self.scale = self.scale + 1\n"
      "  return self.head\n",
  };
  for (const char* body : bodies) {
    const auto graph = TorchScriptGraph::Load(Saved(TiedModule(body)));
    EXPECT_EQ(graph.status().code(), absl::StatusCode::kUnimplemented)
        << body << graph.status();
    EXPECT_EQ(GetReason(graph.status())->code, "UNSUPPORTED");
  }
}

TEST(TorchScriptTest, DamageIsToldFromWhatDoesNotFit) {
  EXPECT_EQ(
      TorchScriptGraph::Load(MakeMemorySource("no archive")).status().code(),
      absl::StatusCode::kDataLoss);
  std::ostringstream bytes;
  TiedModule().save(bytes);
  const std::string whole = bytes.str();
  EXPECT_EQ(TorchScriptGraph::Load(
                MakeMemorySource(whole.substr(0, whole.size() / 2)))
                .status()
                .code(),
            absl::StatusCode::kDataLoss);
  const auto model = MakeTorchScript(
      R"({"architectures": ["OddForMaskedLM"], "vocab_size": 5})", {},
      Saved(TiedModule()));
  EXPECT_EQ(model.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(model.status().message()),
              HasSubstr("OddForMaskedLM"));
}

TEST(TorchScriptTest, LogitsOfAnotherShapeAreNamed) {
  const c10::InferenceMode no_gradients;
  auto model = MakeTorchScript(
      kConfig, {},
      Saved(TiedModule("def forward(self, ids):\n  return self.head\n")));
  ASSERT_TRUE(model.ok()) << model.status();
  ASSERT_TRUE((*model)->Fill({{"head", at::ones({5, 3})}}).ok() ||
              (*model)->Fill({{"inner.table", at::ones({5, 3})}}).ok());
  const auto logits = (*model)->language()->Forward(Ids({1, 2}));
  EXPECT_EQ(logits.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(logits.status().message()), HasSubstr("[5, 3]"));
}

}  // namespace
}  // namespace cairn
