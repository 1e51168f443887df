// Tokens a second of one forward pass with log-probabilities: as
// `cairn evaluate` does it, item by item, and as a batch through libtorch's
// plain operators with as many threads. In turn, the best round of each.
//
//   forward_bench [THREADS]
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/log.h"
#include "core/tensor/byte_source.h"
#include "merge/eval/evaluate.h"
#include "merge/eval/suite.h"
#include "merge/model/load_model.h"
#include "merge/tensor/compute.h"

namespace cairn {
namespace {

constexpr int kRounds = 4;
// After which no further round begins.
constexpr double kSecondsMax = 30;

struct Shape {
  const char* title;
  at::ScalarType dtype;
  int64_t items, length, hidden, inner, layers, heads, kv_heads, vocab;

  int64_t head_dim() const { return hidden / heads; }
};

// The large one is the 1.1 B model's with fewer of its equal layers.
constexpr Shape kShapes[] = {
    {"5 M, F32, 8x512", at::kFloat, 8, 512, 256, 704, 6, 4, 4, 259},
    {"110 M, F32, 8x512", at::kFloat, 8, 512, 768, 2048, 12, 12, 12, 32000},
    {"1.1 B (4 layers), BF16, 2x512", at::kBFloat16, 2, 512, 2048, 5632, 4, 32,
     4, 32000},
};

std::string ConfigOf(const Shape& shape) {
  return absl::StrCat(
      R"({"architectures": ["LlamaForCausalLM"], "vocab_size": )", shape.vocab,
      R"(, "hidden_size": )", shape.hidden, R"(, "intermediate_size": )",
      shape.inner, R"(, "num_hidden_layers": )", shape.layers,
      R"(, "num_attention_heads": )", shape.heads,
      R"(, "num_key_value_heads": )", shape.kv_heads,
      R"(, "max_position_embeddings": 2048, "tie_word_embeddings": false})");
}

std::unique_ptr<Model> MakeRandom(const Shape& shape) {
  auto model = MakeModel(ConfigOf(shape), {});
  CAIRN_CHECK(model.ok());
  at::manual_seed(1);
  ParameterMap values;
  for (const ParameterSpec& spec : (*model)->parameter_specs()) {
    const at::Tensor value =
        spec.shape.size() == 1
            ? at::ones(spec.shape)
            : at::randn(spec.shape) /
                  std::sqrt(static_cast<double>(spec.shape[1]));
    values[spec.name] = value.to(shape.dtype);
  }
  CAIRN_CHECK((*model)->Fill(std::move(values)).ok());
  return *std::move(model);
}

at::Tensor SomeIds(const Shape& shape) {
  at::manual_seed(2);
  return at::randint(4, shape.vocab, {shape.items, shape.length + 1},
                     at::kLong);
}

Suite SuiteOf(const at::Tensor& ids) {
  FileMap files;
  files["suite.yaml"] = MakeMemorySource(
      "name: s\nkind: perplexity\nmetric: perplexity\n"
      "splits: {gate: items.jsonl}\n");
  std::string items;
  for (int64_t i = 0; i < ids.size(0); ++i) {
    const at::Tensor row = ids[i].contiguous();
    const int64_t* begin = row.data_ptr<int64_t>();
    absl::StrAppend(&items, R"({"id": "i)", i, R"(", "input_ids": [)",
                    absl::StrJoin(begin, begin + row.numel(), ","), "]}\n");
  }
  files["items.jsonl"] = MakeMemorySource(items);
  return *Suite::Open(std::move(files));
}

// A Llama as one writes it down, batch and all.
class PlainLlama {
 public:
  PlainLlama(const Shape& shape, const ParameterMap& parameters)
      : shape_(shape), parameters_(parameters) {
    const at::Tensor frequencies =
        at::pow(10000.0, at::arange(0, shape.head_dim(), 2, at::kFloat) /
                             -shape.head_dim());
    const at::Tensor angles =
        at::arange(shape.length, at::kFloat).unsqueeze(1) * frequencies;
    const at::Tensor both = at::cat({angles, angles}, -1);
    cos_ = at::cos(both).to(shape.dtype);
    sin_ = at::sin(both).to(shape.dtype);
    mask_ = at::full({shape.length, shape.length},
                     -std::numeric_limits<double>::infinity(),
                     at::dtype(shape.dtype))
                .triu(1);
  }

  double Score(const at::Tensor& ids) const {
    const at::Tensor input = ids.narrow(1, 0, shape_.length);
    at::Tensor x = at::embedding(At("model.embed_tokens.weight"), input);
    for (int64_t i = 0; i < shape_.layers; ++i) {
      const std::string layer = absl::StrCat("model.layers.", i, ".");
      x = x + Attention(layer + "self_attn.",
                        Norm(x, layer + "input_layernorm.weight"));
      x = x + Mlp(layer + "mlp.",
                  Norm(x, layer + "post_attention_layernorm.weight"));
    }
    const at::Tensor logits =
        at::linear(Norm(x, "model.norm.weight"), At("lm_head.weight"));
    return at::log_softmax(logits.to(at::kFloat), -1)
        .gather(-1, ids.narrow(1, 1, shape_.length).unsqueeze(-1))
        .sum()
        .item<double>();
  }

 private:
  const at::Tensor& At(const std::string& name) const {
    return parameters_.find(name)->second;
  }

  at::Tensor Norm(const at::Tensor& x, const std::string& gain) const {
    const at::Tensor wide = x.to(at::kFloat);
    const at::Tensor scale = at::rsqrt(wide.pow(2).mean(-1, true) + 1e-6);
    return At(gain) * (wide * scale).to(x.scalar_type());
  }

  at::Tensor Heads(const at::Tensor& x, int64_t heads) const {
    return x.view({shape_.items, shape_.length, heads, shape_.head_dim()})
        .transpose(1, 2);
  }

  at::Tensor Turn(const at::Tensor& x) const {
    const std::vector<at::Tensor> halves = x.chunk(2, -1);
    return x * cos_ + at::cat({-halves[1], halves[0]}, -1) * sin_;
  }

  at::Tensor Attention(const std::string& name, const at::Tensor& x) const {
    const int64_t group = shape_.heads / shape_.kv_heads;
    const auto project = [&](const char* part, int64_t heads) {
      return Heads(at::linear(x, At(absl::StrCat(name, part, ".weight"))),
                   heads);
    };
    const at::Tensor q = Turn(project("q_proj", shape_.heads));
    at::Tensor k = Turn(project("k_proj", shape_.kv_heads));
    at::Tensor v = project("v_proj", shape_.kv_heads);
    if (group > 1) {
      k = k.repeat_interleave(group, 1);
      v = v.repeat_interleave(group, 1);
    }
    const double scale = 1 / std::sqrt(static_cast<double>(shape_.head_dim()));
    const at::Tensor weights =
        at::softmax(at::matmul(q, k.transpose(2, 3)) * scale + mask_, -1);
    const at::Tensor mixed =
        at::matmul(weights, v)
            .transpose(1, 2)
            .reshape({shape_.items, shape_.length, shape_.hidden});
    return at::linear(mixed, At(name + "o_proj.weight"));
  }

  at::Tensor Mlp(const std::string& name, const at::Tensor& x) const {
    const at::Tensor gate = at::linear(x, At(name + "gate_proj.weight"));
    const at::Tensor up = at::linear(x, At(name + "up_proj.weight"));
    return at::linear(at::silu(gate) * up, At(name + "down_proj.weight"));
  }

  const Shape& shape_;
  const ParameterMap& parameters_;
  at::Tensor cos_, sin_, mask_;
};

void UseThreads(int threads) {
  at::set_num_threads(threads);
  using SetThreads = void (*)(int);
  if (void* symbol = dlsym(RTLD_DEFAULT, "openblas_set_num_threads")) {
    reinterpret_cast<SetThreads>(symbol)(threads);
  }
}

template <typename Work>
double Seconds(Work work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  const std::chrono::duration<double> taken =
      std::chrono::steady_clock::now() - start;
  return taken.count();
}

void Compare(const Shape& shape, int threads) {
  const std::unique_ptr<Model> model = MakeRandom(shape);
  const at::Tensor ids = SomeIds(shape);
  const Suite suite = SuiteOf(ids);
  const PlainLlama plain(shape, model->parameters());
  double ours = 1e9, theirs = 1e9, sum = 0, other_sum = 0, spent = 0;
  for (int round = 0; round < kRounds && spent < kSecondsMax; ++round) {
    UseThreads(1);
    const double mine = Seconds([&] {
      const auto report = EvaluateSuite(
          *model, suite, "gate", {.threads = threads, .progress = nullptr});
      CAIRN_CHECK(report.ok());
      sum = 0;
      for (const ItemScore& item : report->items) sum += item.logprob_sum;
    });
    UseThreads(threads);
    const double other = Seconds([&] {
      const c10::InferenceMode no_gradients;
      other_sum = plain.Score(ids);
    });
    ours = std::min(ours, mine);
    theirs = std::min(theirs, other);
    spent += mine + other;
  }
  const double tokens = static_cast<double>(shape.items * shape.length);
  std::printf("%-32s ours %9.0f tokens/s, libtorch %9.0f: %.2f (%.8g, %.8g)\n",
              shape.title, tokens / ours, tokens / theirs, theirs / ours, sum,
              other_sum);
  std::fflush(stdout);
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) {
  cairn::InitCompute();
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  for (const cairn::Shape& shape : cairn::kShapes) {
    cairn::Compare(shape, threads);
  }
}
