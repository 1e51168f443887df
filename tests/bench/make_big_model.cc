// Makes the inputs of the benchmarks: a Llama of about 1 GiB a ten layers in
// BF16 with pseudo-random weights, the same with every weight moved a little,
// and eight LoRA adapters of rank 16 on every linear layer; or for merges of
// whole models three that were tuned from it, each its own way.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "core/base/status_macros.h"
#include "core/tensor/float_bits.h"
#include "core/tensor/safetensors.h"

namespace cairn {
namespace {

constexpr int64_t kHidden = 1024;
constexpr int64_t kInner = 16896;
constexpr int64_t kVocabulary = 257;
constexpr int64_t kRank = 16;
constexpr int kAdapters = 8;

struct Linear {
  std::string module;
  int64_t out;
  int64_t in;
};

std::vector<Linear> Linears(int64_t layers) {
  std::vector<Linear> all;
  for (int64_t i = 0; i < layers; ++i) {
    const std::string layer = absl::StrCat("model.layers.", i, ".");
    for (const char* name : {"q_proj", "o_proj"}) {
      all.push_back(
          {absl::StrCat(layer, "self_attn.", name), kHidden, kHidden});
    }
    for (const char* name : {"k_proj", "v_proj"}) {
      all.push_back(
          {absl::StrCat(layer, "self_attn.", name), kHidden / 2, kHidden});
    }
    for (const char* name : {"gate_proj", "up_proj"}) {
      all.push_back({absl::StrCat(layer, "mlp.", name), kInner, kHidden});
    }
    all.push_back({absl::StrCat(layer, "mlp.down_proj"), kHidden, kInner});
  }
  return all;
}

std::vector<TensorSpec> ModelTensors(int64_t layers) {
  std::vector<TensorSpec> specs;
  for (const Linear& linear : Linears(layers)) {
    specs.push_back({.name = absl::StrCat(linear.module, ".weight"),
                     .dtype = DType::kBF16,
                     .shape = {linear.out, linear.in}});
  }
  for (int64_t i = 0; i < layers; ++i) {
    for (const char* name : {"input_layernorm", "post_attention_layernorm"}) {
      specs.push_back(
          {.name = absl::StrCat("model.layers.", i, ".", name, ".weight"),
           .dtype = DType::kBF16,
           .shape = {kHidden}});
    }
  }
  specs.push_back(
      {.name = "model.norm.weight", .dtype = DType::kBF16, .shape = {kHidden}});
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"}) {
    specs.push_back(
        {.name = name, .dtype = DType::kBF16, .shape = {kVocabulary, kHidden}});
  }
  return specs;
}

uint64_t NextBits(uint64_t& state) {
  uint64_t z = (state += 0x9E3779B97F4A7C15);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

// Four BF16 numbers of magnitude 2^-7 to 2^-6 with random sign and mantissa;
// `flip` changes low mantissa bits only.
uint64_t FourWeights(uint64_t& state, uint64_t flip) {
  return ((NextBits(state) & 0x807F807F807F807F) | 0x3C003C003C003C00) ^ flip;
}

// Moves four weights by what is roughly normal with a deviation of 0.002, as
// fine-tuning does.
uint64_t Tuned(uint64_t bits, uint64_t& state) {
  uint64_t tuned = 0;
  for (int i = 0; i < 4; ++i) {
    const uint64_t random = NextBits(state);
    int sum = 0;  // of four numbers from 0 to 65535
    for (int k = 0; k < 4; ++k) sum += static_cast<int>(random >> 16 * k & 0xffff);
    const float change = 0.002f * static_cast<float>(sum - 131070) / 37837.0f;
    const auto weight = static_cast<uint16_t>(bits >> 16 * i);
    tuned |= uint64_t{FloatToBfloat(BfloatToFloat(weight) + change)} << 16 * i;
  }
  return tuned;
}

// `tuning`: whose change is added; 0: nobody's.
absl::Status Fill(SafetensorsWriter& writer, uint64_t seed, uint64_t flip,
                  uint64_t tuning = 0) {
  std::vector<char> tile(1 << 20);
  uint64_t state = seed, tuning_state = tuning;
  for (const TensorEntry& tensor : writer.tensors()) {
    const int64_t size = tensor.size_bytes();
    for (int64_t at = 0; at < size;) {
      const int64_t n = std::min<int64_t>(size - at, 1 << 20);
      for (int64_t i = 0; i < n; i += 8) {
        uint64_t bits = FourWeights(state, flip);
        if (tuning != 0) bits = Tuned(bits, tuning_state);
        std::memcpy(tile.data() + i, &bits,
                    static_cast<size_t>(std::min<int64_t>(8, n - i)));
      }
      CAIRN_RETURN_IF_ERROR(writer.Write(
          tensor.name, at,
          absl::MakeConstSpan(tile).first(static_cast<size_t>(n))));
      at += n;
    }
  }
  return absl::OkStatus();
}

absl::Status WriteModel(const std::string& dir, int64_t layers, uint64_t flip,
                        uint64_t tuning = 0) {
  std::filesystem::create_directories(dir);
  std::ofstream(absl::StrCat(dir, "/config.json")) << absl::StrCat(
      R"({"architectures": ["LlamaForCausalLM"], )",
      R"("model_type": "llama", "hidden_act": "silu", )",
      R"("rms_norm_eps": 1e-06, "rope_theta": 10000.0, )",
      R"("max_position_embeddings": 256, )",
      R"("tie_word_embeddings": false, )", R"("num_attention_heads": 4, )",
      R"("num_key_value_heads": 2, "vocab_size": )", kVocabulary,
      R"(, "hidden_size": )", kHidden, R"(, "intermediate_size": )", kInner,
      R"(, "num_hidden_layers": )", layers, "}\n");
  CAIRN_ASSIGN_OR_RETURN(
      auto writer,
      SafetensorsWriter::Create(absl::StrCat(dir, "/model.safetensors"),
                                ModelTensors(layers), {{"format", "pt"}}));
  CAIRN_RETURN_IF_ERROR(Fill(*writer, 1, flip, tuning));
  return std::move(*writer).Finish();
}

absl::Status WriteAdapter(const std::string& dir, int64_t layers,
                          uint64_t seed) {
  std::filesystem::create_directories(dir);
  std::ofstream(absl::StrCat(dir, "/adapter_config.json"))
      << absl::StrCat(R"({"peft_type": "LORA", "task_type": "CAUSAL_LM", )",
                      R"("lora_alpha": 16, "target_modules": ["q_proj", )",
                      R"("k_proj", "v_proj", "o_proj", "gate_proj", )",
                      R"("up_proj", "down_proj"], "r": )", kRank, "}\n");
  std::vector<TensorSpec> specs;
  for (const Linear& linear : Linears(layers)) {
    const std::string stem = absl::StrCat("base_model.model.", linear.module);
    specs.push_back({.name = absl::StrCat(stem, ".lora_A.weight"),
                     .dtype = DType::kBF16,
                     .shape = {kRank, linear.in}});
    specs.push_back({.name = absl::StrCat(stem, ".lora_B.weight"),
                     .dtype = DType::kBF16,
                     .shape = {linear.out, kRank}});
  }
  CAIRN_ASSIGN_OR_RETURN(
      auto writer,
      SafetensorsWriter::Create(absl::StrCat(dir, "/adapter_model.safetensors"),
                                std::move(specs), {{"format", "pt"}}));
  CAIRN_RETURN_IF_ERROR(Fill(*writer, seed, 0));
  return std::move(*writer).Finish();
}

absl::Status Make(const std::string& root, int64_t layers, bool is_for_merge) {
  CAIRN_RETURN_IF_ERROR(WriteModel(absl::StrCat(root, "/base"), layers, 0));
  for (uint64_t tuning = 1; is_for_merge && tuning <= 3; ++tuning) {
    CAIRN_RETURN_IF_ERROR(WriteModel(absl::StrCat(root, "/tuned-", tuning),
                                     layers, 0, 1000 * tuning));
  }
  // The lowest mantissa bit of every weight: the smallest change there is.
  if (!is_for_merge) {
    CAIRN_RETURN_IF_ERROR(
        WriteModel(absl::StrCat(root, "/tuned"), layers, 0x0001000100010001));
  }
  for (int i = 1; i <= kAdapters; ++i) {
    CAIRN_RETURN_IF_ERROR(WriteAdapter(absl::StrCat(root, "/lora-", i), layers,
                                       static_cast<uint64_t>(100 + i)));
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) {
  const int64_t layers = argc >= 3 ? std::atoll(argv[2]) : 10;
  const bool is_for_merge = argc == 4 && std::strcmp(argv[3], "merge") == 0;
  if (argc < 2 || argc > 4 || layers < 1 || (argc == 4 && !is_for_merge)) {
    std::fprintf(stderr, "usage: make_big_model DIR [LAYERS [merge]]\n");
    return 2;
  }
  absl::Status status = cairn::Make(argv[1], layers, is_for_merge);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
