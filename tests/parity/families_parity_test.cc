// Every family of models against transformers; make_family_goldens.py beside
// this file wrote what is expected.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "core/base/file.h"
#include "core/tensor/safetensors.h"
#include "core/update/module_names.h"
#include "merge/eval/continuation.h"
#include "merge/model/load_model.h"
#include "merge/tensor/torch_bridge.h"

namespace cairn {
namespace {

constexpr double kTolerance = 1e-4;

// A model and the tensors that were recorded for it.
class Golden {
 public:
  explicit Golden(const std::string& name)
      : directory_(std::string(std::getenv("CAIRN_SOURCE_DIR")) +
                   "/tests/testdata/families/" + name) {
    auto loaded = LoadModelDirectory(directory_, {});
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    model_ = *std::move(loaded);
    const std::string path = directory_ + "/golden.safetensors";
    file_ = *OpenFileSource(path);
    header_ = *SafetensorsHeader::Read(*file_, path);
  }

  const std::string& directory() const { return directory_; }
  const Model& model() const { return *model_; }
  at::Tensor Read(const std::string& name) const {
    const TensorEntry* entry = header_.Find(name);
    if (entry == nullptr) return {};
    return *ReadTensor(
        *MakeSliceSource(file_, entry->begin, entry->end - entry->begin),
        entry->dtype, entry->shape);
  }
  at::Tensor ReadIds(const std::string& name) const {
    const at::Tensor ids = Read(name);
    return ids.defined() ? ids.to(at::kLong) : ids;
  }

 private:
  std::string directory_;
  std::unique_ptr<Model> model_;
  SharedSource file_;
  SafetensorsHeader header_;
};

void ExpectNear(const absl::StatusOr<at::Tensor>& got, const at::Tensor& want) {
  ASSERT_TRUE(got.ok()) << got.status();
  ASSERT_EQ(got->numel(), want.numel());
  EXPECT_GT(want.abs().max().item<double>(), 0.1);
  EXPECT_LE((got->reshape(want.sizes()) - want).abs().max().item<double>(),
            kTolerance);
}

TokenIds IdsOf(const at::Tensor& tensor) {
  const at::Tensor packed = tensor.contiguous();
  return TokenIds(packed.data_ptr<int64_t>(),
                  packed.data_ptr<int64_t>() + packed.numel());
}

class CausalFamily : public ::testing::TestWithParam<const char*> {};

TEST_P(CausalFamily, PredictsAsTransformersDoes) {
  const Golden golden(GetParam());
  ExpectNear(
      golden.model().language()->Forward(golden.ReadIds("ids").unsqueeze(0)),
      golden.Read("logits"));
}

// Keys that were kept give what reading all at once gives.
TEST_P(CausalFamily, WritesWhatTransformersWrites) {
  const Golden golden(GetParam());
  const LanguageModel& model = *golden.model().language();
  const TokenIds context = IdsOf(golden.ReadIds("ids").narrow(0, 0, 5));
  TokenIds want = IdsOf(golden.ReadIds("generated"));
  if (want.back() == model.traits().end_ids.front()) want.pop_back();
  const absl::StatusOr<Generated> got = GenerateGreedily(model, context, 64);
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->ids, want);
}

INSTANTIATE_TEST_SUITE_P(
    Goldens, CausalFamily,
    ::testing::Values("mistral", "qwen2", "qwen3", "smollm3", "gemma", "gemma2",
                      "phi3", "phi3_longrope", "gpt2", "neox",
                      "neox_sequential", "opt", "opt_after"),
    [](const auto& golden) { return std::string(golden.param); });

class EncoderDecoder : public ::testing::TestWithParam<const char*> {};

TEST_P(EncoderDecoder, PredictsAsTransformersDoes) {
  const Golden golden(GetParam());
  const LanguageModel& model = *golden.model().language();
  absl::StatusOr<Memory> memory =
      model.Encode(golden.ReadIds("context").unsqueeze(0));
  ASSERT_TRUE(memory.ok()) << memory.status();
  const at::Tensor ids = golden.ReadIds("ids").unsqueeze(0);
  Memory other = *memory;
  ExpectNear(model.Logits(*model.Hidden(ids, &*memory)), golden.Read("logits"));
  // Token by token from the same encoder output.
  std::vector<at::Tensor> rows;
  for (int64_t i = 0; i < ids.size(1); ++i) {
    rows.push_back(*model.Logits(*model.Hidden(ids.narrow(1, i, 1), &other)));
  }
  ExpectNear(at::cat(rows, 1), golden.Read("logits"));
}

INSTANTIATE_TEST_SUITE_P(Goldens, EncoderDecoder,
                         ::testing::Values("t5", "flan_t5"));

class TextFamily : public ::testing::TestWithParam<const char*> {};

TEST_P(TextFamily, ClassifiesAsTransformersDoes) {
  const Golden golden(GetParam());
  ExpectNear(golden.model().text_classifier()->Classify(
                 {.ids = golden.ReadIds("ids"),
                  .mask = golden.ReadIds("mask"),
                  .types = golden.ReadIds("types")}),
             golden.Read("logits"));
}

INSTANTIATE_TEST_SUITE_P(Goldens, TextFamily,
                         ::testing::Values("bert", "roberta", "distilbert"));

TEST(ImageFamily, ClassifiesAsTransformersDoes) {
  const Golden golden("vit");
  ExpectNear(golden.model().image_classifier()->Classify(golden.Read("pixels")),
             golden.Read("logits"));
}

// Files with the names that transformers 5 has in memory hold the same model.
TEST(ImageFamily, KnowsItsParametersByEitherName) {
  const Golden golden("vit");
  ParameterMap parameters;
  ShapeMap shapes;
  for (const auto& [name, value] : golden.model().parameters()) {
    const std::string other = NameInMemory(name);
    parameters[other] = value;
    shapes[other] = value.sizes().vec();
  }
  EXPECT_TRUE(shapes.contains("vit.layers.0.attention.q_proj.weight"));
  const std::string config = *ReadFile(golden.directory() + "/config.json");
  auto model = MakeModel(config, shapes);
  ASSERT_TRUE(model.ok()) << model.status();
  ASSERT_TRUE((*model)->Fill(std::move(parameters)).ok());
  ExpectNear((*model)->image_classifier()->Classify(golden.Read("pixels")),
             golden.Read("logits"));
}

class ImageTextFamily : public ::testing::TestWithParam<const char*> {};

TEST_P(ImageTextFamily, PlacesImagesAndTextsAsTransformersDoes) {
  const Golden golden(GetParam());
  const ImageTextModel& model = *golden.model().image_text();
  ExpectNear(model.EmbedImage(golden.Read("pixels")), golden.Read("image"));
  ExpectNear(model.EmbedText(golden.ReadIds("ids")), golden.Read("text"));
  EXPECT_NEAR(*model.LogitScale(), golden.Read("scale").item<double>(), 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Goldens, ImageTextFamily,
                         ::testing::Values("clip", "clip_legacy"));

}  // namespace
}  // namespace cairn
