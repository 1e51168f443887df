#ifndef CAIRN_MERGE_KERNEL_ATTENTION_GROUP_H_
#define CAIRN_MERGE_KERNEL_ATTENTION_GROUP_H_

#include <cstdint>

#include "merge/kernel/product_kernels.h"

namespace cairn {

// The heads of one text that share keys and values, in F32: for each query q
// the mean of the values, weighted by softmax(scale * q K^T + bias).
struct AttentionGroup {
  int64_t heads = 1;
  int64_t queries = 0;
  int64_t keys = 0;
  int64_t width = 0;
  int64_t value_width = 0;
  // [heads, queries, width]; the last dimension is packed, here and below.
  const float* q = nullptr;
  int64_t q_head_stride = 0;
  int64_t q_stride = 0;
  const float* k = nullptr;  // [keys, width]
  int64_t k_stride = 0;
  const float* v = nullptr;  // [keys, value_width]
  int64_t v_stride = 0;
  const float* bias = nullptr;  // [heads, queries, keys]; null: none
  int64_t bias_head_stride = 0;
  int64_t bias_stride = 0;
  float* out = nullptr;  // [heads, queries, value_width]
  int64_t out_head_stride = 0;
  int64_t out_stride = 0;
  float scale = 1;
  // Causal: the queries are the last of the keys' positions, and each sees
  // itself and what is before it, `window` positions in all (0: every one).
  bool is_causal = true;
  int64_t window = 0;
};

// Computes it on the calling thread. What no query of a few neighbours sees is
// not multiplied. A query's row of `out` is the same bits whatever other
// queries there are, and on every machine. Keeps scratch for the thread that
// grows with the keys; the arrays do not overlap.
void Attend(const AttentionGroup& group);

// The same on given kernels.
void Attend(const AttentionGroup& group, const ProductKernels& kernels);

}  // namespace cairn

#endif  // CAIRN_MERGE_KERNEL_ATTENTION_GROUP_H_
