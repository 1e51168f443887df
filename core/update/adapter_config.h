#ifndef CAIRN_CORE_UPDATE_ADAPTER_CONFIG_H_
#define CAIRN_CORE_UPDATE_ADAPTER_CONFIG_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace re2 {
class RE2;
}  // namespace re2

namespace cairn {

// A value for the modules whose names match a pattern.
struct PatternRule {
  std::string pattern;
  double value = 0.0;
  // Compiled as peft matches it: `(.*\.)?(pattern)` over the whole name.
  // Shared, so that configurations can be copied.
  std::shared_ptr<const re2::RE2> regex;
};

// Types of PEFT adapters that can be merged.
enum class AdapterKind { kLora, kIa3, kShira };

// What adapter_config.json of a PEFT adapter says, as far as it has to do with
// the weights.
struct AdapterConfig {
  int64_t rank = 8;
  double alpha = 8.0;
  bool use_rslora = false;
  bool fan_in_fan_out = false;
  // In the order of the file; the first that matches wins.
  std::vector<PatternRule> rank_pattern;
  std::vector<PatternRule> alpha_pattern;
  // Suffixes of the modules that have factors; empty together with
  // `target_regex`: any module.
  std::vector<std::string> target_modules;
  std::shared_ptr<const re2::RE2> target_regex;
  AdapterKind kind = AdapterKind::kLora;
  bool use_dora = false;
  bool lora_bias = false;
  // Names of parameters (of experts) that have factors themselves.
  std::vector<std::string> target_parameters;
  // IA3: suffixes of the modules whose inputs are scaled.
  std::vector<std::string> feedforward_modules;
  // Rows that were trained, of a module by the end of its name ("": the input
  // embeddings).
  std::map<std::string, std::vector<int64_t>> token_indices;

  // Where the base was found; informative only.
  std::string base_model_name_or_path;
  std::string revision;

  // Parses and checks the text. INVALID_ARGUMENT with reason MALFORMED_FILE
  // (not JSON, a duplicate key, a value of the wrong type or out of range),
  // UNSUPPORTED naming the key (an adapter type, or a key whose value changes
  // what the adapter means and that we do not implement: layer_replication,
  // alora_invocation_tokens, ...) or LIMIT_EXCEEDED (patterns past 1 KiB, depth past 32). Keys
  // that change nothing are ignored, known or not.
  static absl::StatusOr<AdapterConfig> Parse(absl::string_view text,
                                             absl::string_view label);

  // Rank of a module ("model.layers.0.mlp.up_proj"), by pattern or default.
  int64_t RankOf(absl::string_view module) const;
  // The factor on B*A: alpha / rank, or alpha / sqrt(rank) for rslora.
  double ScaleOf(absl::string_view module) const;
  // Whether target_modules names the module, as peft matches it.
  bool Targets(absl::string_view module) const;
};

// A key of rank_pattern and alpha_pattern that matches this module only. The
// bare name is taken for the end of longer names, too, and its dots for any
// character.
std::string ModulePattern(absl::string_view module);

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_ADAPTER_CONFIG_H_
