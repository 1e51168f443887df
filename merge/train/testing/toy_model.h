#ifndef CAIRN_MERGE_TRAIN_TESTING_TOY_MODEL_H_
#define CAIRN_MERGE_TRAIN_TESTING_TOY_MODEL_H_

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include <ATen/Functions.h>

#include "gtest/gtest.h"
#include "merge/train/loss_gradient.h"
#include "merge/train/random.h"
#include "merge/train/token_corpus.h"

namespace cairn::testing {

// A language model small enough to check by hand: the next token's logits
// are head * tanh(hidden * embedding[id]). For tests.
struct ToyModel {
  static constexpr int64_t kVocabulary = 16;
  static constexpr int64_t kWidth = 6;

  explicit ToyModel(uint64_t seed = 1) {
    uint64_t stream = 0;
    for (const auto& [name, rows] :
         {std::pair<const char*, int64_t>{"embedding", kVocabulary},
          {"hidden", kWidth},
          {"head", kVocabulary}}) {
      const CounterRandom random(seed, stream++);
      at::Tensor tensor = at::empty({rows, kWidth}, at::kFloat);
      const absl::Span<float> floats = FloatsOf(tensor);
      for (size_t i = 0; i < floats.size(); ++i) {
        floats[i] = static_cast<float>(0.5 * random.Normal(i));
      }
      weights.push_back({name, tensor.requires_grad_(true)});
    }
  }

  ForwardFunction forward() const {
    return [w = weights](const at::Tensor& ids) -> absl::StatusOr<at::Tensor> {
      const at::Tensor embedded = at::embedding(w[0].tensor, ids);
      return at::matmul(at::tanh(at::matmul(embedded, w[1].tensor.t())),
                        w[2].tensor.t());
    };
  }

  // Embedding, hidden, head.
  std::vector<TunedWeight> weights;
};

// Text over the toy's vocabulary in which most tokens follow from the last.
inline TokenCorpus ToyData() {
  const std::string path = ::testing::TempDir() + "/toy.txt";
  const CounterRandom random(7, 7);
  std::string text(4000, '\0');
  for (size_t i = 1; i < text.size(); ++i) {
    const bool noise = random.Uniform(i) < 0.1;
    text[i] = static_cast<char>(noise ? random.Below(i, ToyModel::kVocabulary)
                                      : (text[i - 1] * 5 + 3) %
                                            ToyModel::kVocabulary);
  }
  std::ofstream(path, std::ios::binary) << text;
  auto data = TokenCorpus::Load({{{path}}}, ToyModel::kVocabulary);
  EXPECT_TRUE(data.ok()) << data.status();
  return *std::move(data);
}

}  // namespace cairn::testing

#endif  // CAIRN_MERGE_TRAIN_TESTING_TOY_MODEL_H_
