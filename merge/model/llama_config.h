#ifndef CAIRN_MERGE_MODEL_LLAMA_CONFIG_H_
#define CAIRN_MERGE_MODEL_LLAMA_CONFIG_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "merge/model/rope.h"

namespace cairn {

// A parameter that a checkpoint must have.
struct ParameterSpec {
  std::string name;
  std::vector<int64_t> shape;
};

// Shapes of tensors by name.
using ShapeMap = std::map<std::string, std::vector<int64_t>, std::less<>>;

// What config.json says about a Llama. Defaults are those of transformers.
struct LlamaConfig {
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t max_position_embeddings = 2048;
  double rms_norm_eps = 1e-6;
  bool has_attention_bias = false;
  bool has_mlp_bias = false;
  bool ties_embeddings = false;
  RopeConfig rope;
  // The beginning-of-text token, else the end-of-text token, else nothing:
  // what stands before a text that has no context.
  std::vector<int64_t> prefix_ids;

  // Reads both config styles: `rope_parameters`, and `rope_theta` beside
  // `rope_scaling`. DATA_LOSS with MALFORMED_FILE for what is no sound
  // configuration, UNIMPLEMENTED with UNSUPPORTED for a sound one that we
  // cannot run (rope kind, activation); messages name config.json and the key.
  static absl::StatusOr<LlamaConfig> Parse(absl::string_view config_json);

  // Longest input in tokens.
  int64_t LongestInput() const;

  // Every parameter, in the order of the network. With `has_head` the output
  // matrix is one of them, else the embeddings serve as such.
  std::vector<ParameterSpec> Parameters(bool has_head) const;

  // Whether these are exactly the model's parameters; a head is optional where
  // the embeddings are tied to it. DATA_LOSS: UNKNOWN_TENSOR for a missing or
  // an additional tensor, SHAPE_MISMATCH for another shape, which they name.
  absl::Status CheckTensors(const ShapeMap& tensors) const;
};

// The class that config.json names in `architectures`, else the one that its
// `model_type` implies, e.g. "LlamaForCausalLM". DATA_LOSS when the text is no
// JSON object or names neither.
absl::StatusOr<std::string> ArchitectureOf(absl::string_view config_json);

}  // namespace cairn

#endif  // CAIRN_MERGE_MODEL_LLAMA_CONFIG_H_
