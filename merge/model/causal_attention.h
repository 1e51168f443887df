#ifndef CAIRN_MERGE_MODEL_CAUSAL_ATTENTION_H_
#define CAIRN_MERGE_MODEL_CAUSAL_ATTENTION_H_

#include <ATen/core/Tensor.h>

namespace cairn {

// Causal attention with grouped queries. q is [B, heads, T, D]; k and v are
// [B, kv_heads, T, D], where kv_heads divides heads and consecutive heads
// share keys. Scores are scaled by 1/sqrt(D), softmax is in F32. Returns
// [B, T, heads * D] in the type of v.
//
// Queries go in blocks that look only at the keys they can see, which saves
// half of the arithmetic of long inputs and bounds memory by T x block.
at::Tensor CausalAttention(const at::Tensor& q, const at::Tensor& k,
                           const at::Tensor& v);

}  // namespace cairn

#endif  // CAIRN_MERGE_MODEL_CAUSAL_ATTENTION_H_
