#ifndef CAIRN_MERGE_MODEL_ATTENTION_H_
#define CAIRN_MERGE_MODEL_ATTENTION_H_

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace cairn {

struct AttentionOptions {
  // What products of queries and keys are multiplied with.
  double scale = 1.0;
  // Causal: the queries are the last of the keys' positions, and each sees
  // itself and what is before it.
  bool is_causal = true;
  // Causal only: how many positions a query sees, itself included; 0: all.
  int64_t window = 0;
  // Scores go through cap * tanh(score / cap); 0: they do not.
  double softcap = 0;
  // Added to the scores: F32, [heads or 1, queries or 1, keys]; undefined:
  // nothing.
  at::Tensor bias = {};
};

// Attention with grouped queries. q is [B, heads, T, D]; k and v are
// [B, kv_heads, K, D], where kv_heads divides heads and consecutive heads
// share keys. Softmax is in F32. Returns [B, T, heads * D], in F32 on the
// kernels and in the type of v elsewhere.
//
// Queries go in blocks that look only at the keys they can see, which saves
// half of the arithmetic of long inputs and bounds memory by K x block.
at::Tensor Attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                  const AttentionOptions& options);

}  // namespace cairn

#endif  // CAIRN_MERGE_MODEL_ATTENTION_H_
