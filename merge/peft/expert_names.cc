#include "merge/peft/expert_names.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"

namespace cairn {

std::vector<ExpertPart> FindExpertParts(const ModelSource& base,
                                        const std::string& module,
                                        ExpertParameter parameter,
                                        int64_t experts, int64_t in,
                                        int64_t out) {
  const bool is_gate_up = parameter == ExpertParameter::kGateUp;
  const std::string parent(absl::StripSuffix(module, ".experts"));
  for (const std::string& name :
       {absl::StrCat(module, is_gate_up ? ".gate_up_proj" : ".down_proj"),
        absl::StrCat(parent, is_gate_up ? ".input_linear.weight"
                                        : ".output_linear.weight")}) {
    const SourceTensor* tensor = base.Find(name);
    if (tensor == nullptr) continue;
    ExpertPart part = {.tensor = name, .experts = experts, .out = out};
    if (tensor->spec.shape == std::vector<int64_t>{experts, in, out}) {
      // Square ones are stored as those under the parameter's own name are.
      part.is_out_first = in == out && absl::EndsWith(name, ".weight");
      return {part};
    }
    if (tensor->spec.shape == std::vector<int64_t>{experts, out, in}) {
      return {part};
    }
    return {};
  }
  std::vector<ExpertPart> parts;
  const std::string files =
      absl::EndsWith(parent, ".mlp")
          ? absl::StrCat(absl::StripSuffix(parent, ".mlp"), ".block_sparse_moe")
          : parent;
  for (int64_t e = 0; e < experts; ++e) {
    const std::string expert = absl::StrCat(files, ".experts.", e, ".");
    if (is_gate_up) {
      parts.push_back({expert + "w1.weight", e, 1, 0, out / 2, true});
      parts.push_back({expert + "w3.weight", e, 1, out / 2, out / 2, true});
    } else {
      parts.push_back({expert + "w2.weight", e, 1, 0, out, true});
    }
  }
  for (const ExpertPart& part : parts) {
    const SourceTensor* tensor = base.Find(part.tensor);
    if (tensor == nullptr ||
        tensor->spec.shape != std::vector<int64_t>{part.out, in}) {
      return {};
    }
  }
  return parts;
}

}  // namespace cairn
