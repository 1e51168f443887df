#include "core/update/expert_names.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/tensor/tensor_manifest.h"

namespace cairn {
namespace {

bool HasShape(const v1::Tensor& tensor, std::vector<int64_t> shape) {
  return std::equal(shape.begin(), shape.end(), tensor.shape().begin(),
                    tensor.shape().end());
}

}  // namespace

std::vector<ExpertPart> FindExpertParts(const v1::TensorManifest& base,
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
    const v1::Tensor* tensor = FindTensor(base, name);
    if (tensor == nullptr) continue;
    ExpertPart part = {.tensor = name, .experts = experts, .out = out};
    if (HasShape(*tensor, {experts, in, out})) {
      // Square ones are stored as those under the parameter's own name are.
      part.is_out_first = in == out && absl::EndsWith(name, ".weight");
      return {part};
    }
    if (HasShape(*tensor, {experts, out, in})) {
      return {part};
    }
    return {};
  }
  std::vector<ExpertPart> parts;
  if (is_gate_up && out % 2 != 0) return {};
  const std::string files =
      absl::EndsWith(parent, ".mlp")
          ? absl::StrCat(absl::StripSuffix(parent, ".mlp"), ".block_sparse_moe")
          : parent;
  // The first that is missing ends it, however many the adapter claims.
  const auto add = [&](ExpertPart part) {
    const v1::Tensor* tensor = FindTensor(base, part.tensor);
    if (tensor == nullptr || !HasShape(*tensor, {part.out, in})) return false;
    parts.push_back(std::move(part));
    return true;
  };
  for (int64_t e = 0; e < experts; ++e) {
    const std::string expert = absl::StrCat(files, ".experts.", e, ".");
    const int64_t half = out / 2;
    const bool is_there =
        is_gate_up ? add({expert + "w1.weight", e, 1, 0, half, true}) &&
                         add({expert + "w3.weight", e, 1, half, half, true})
                   : add({expert + "w2.weight", e, 1, 0, out, true});
    if (!is_there) return {};
  }
  return parts;
}

}  // namespace cairn
