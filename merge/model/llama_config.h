#ifndef CAIRN_MERGE_MODEL_LLAMA_CONFIG_H_
#define CAIRN_MERGE_MODEL_LLAMA_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "merge/model/config_reader.h"
#include "merge/model/layers.h"
#include "merge/model/model.h"
#include "merge/model/rope.h"

namespace cairn {

// What config.json says about a decoder of the Llama family. Defaults are those
// of transformers for each architecture.
struct LlamaConfig {
  struct LayerKind {
    int64_t window = 0;  // as AttentionOptions::window
    bool has_rope = true;
  };

  std::string architecture;
  LanguageModel::Traits traits;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t max_position_embeddings = 2048;
  double rms_norm_eps = 1e-6;
  Activation activation = nullptr;
  std::vector<LayerKind> layers;
  RopeConfig rope;
  bool ties_embeddings = false;

  bool has_qkv_bias = false;
  bool has_output_bias = false;
  bool has_mlp_bias = false;
  bool has_fused_projections = false;  // Phi-3: qkv_proj, gate_up_proj
  bool has_query_key_norms = false;    // Qwen3
  bool has_post_norms = false;         // Gemma 2: after attention and MLP
  bool is_gemma = false;  // gains are stored less one, embeddings scaled
  double attention_scale = 0;
  double attention_softcap = 0;
  double final_softcap = 0;

  // Whether `architecture` is of the family.
  static bool Knows(absl::string_view architecture);
  // The architectures of the family.
  static std::vector<std::string> Architectures();

  // Reads both config styles. `architecture` is one that is known. DATA_LOSS
  // with MALFORMED_FILE for what is no sound configuration, UNIMPLEMENTED with
  // UNSUPPORTED for a sound one that cannot be run here (rope kind,
  // activation); messages name config.json and the key.
  static absl::StatusOr<LlamaConfig> Parse(absl::string_view architecture,
                                           ConfigReader config);
};

}  // namespace cairn

#endif  // CAIRN_MERGE_MODEL_LLAMA_CONFIG_H_
