#ifndef CAIRN_CORE_UPDATE_EXPERT_NAMES_H_
#define CAIRN_CORE_UPDATE_EXPERT_NAMES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "cairn/v1/common.pb.h"

namespace cairn {

// A matrix of a base's file that holds a part of the experts' parameter as it
// is in memory.
struct ExpertPart {
  std::string tensor;
  int64_t expert = 0;     // the matrix is that of this expert
  int64_t experts = 1;    // ... or of as many, one after the other
  int64_t first_out = 0;  // of the parameter's outputs
  int64_t out = 0;
  bool is_out_first = true;  // [out, in], else [in, out]
};

enum class ExpertParameter { kGateUp, kDown };

// Where the parameter of `module` ("model.layers.0.mlp.experts") lies in the
// base's files: a fused tensor under the module's name, Granite's
// input_linear and output_linear, or Mixtral's w1, w3 and w2 of each expert.
// `in` and `out` are the sizes of one expert. Empty when it is not found.
std::vector<ExpertPart> FindExpertParts(const v1::TensorManifest& base,
                                        const std::string& module,
                                        ExpertParameter parameter,
                                        int64_t experts, int64_t in,
                                        int64_t out);

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_EXPERT_NAMES_H_
