#include "merge/model/causal_attention.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace cairn {
namespace {

constexpr int64_t kBlock = 128;

// 0 where query i of a block may see key first + j, -infinity elsewhere.
at::Tensor BlockMask(int64_t rows, const at::TensorOptions& options) {
  return at::full({rows, rows}, -std::numeric_limits<float>::infinity(),
                  options.dtype(at::kFloat))
      .triu(1);
}

// Softmax of a block's scores [groups, rows, keys]; only the last `rows` keys
// can lie ahead of a query.
at::Tensor BlockWeights(const at::Tensor& scores, const at::Tensor& mask) {
  const int64_t rows = mask.size(0);
  const int64_t past = scores.size(-1) - rows;
  const at::Tensor recent = scores.narrow(-1, past, rows) + mask;
  if (past == 0) return at::softmax(recent, -1);
  return at::softmax(at::cat({scores.narrow(-1, 0, past), recent}, -1), -1);
}

}  // namespace

at::Tensor CausalAttention(const at::Tensor& q, const at::Tensor& k,
                           const at::Tensor& v) {
  const int64_t batch = q.size(0), heads = q.size(1), length = q.size(2);
  const int64_t dim = q.size(3), kv_heads = k.size(1), group = heads / kv_heads;
  const double scale = 1.0 / std::sqrt(static_cast<double>(dim));
  const at::Tensor queries =
      (q * scale).view({batch * kv_heads, group, length, dim});
  const at::Tensor keys =
      k.reshape({batch * kv_heads, length, dim}).transpose(1, 2);
  const at::Tensor values = v.reshape({batch * kv_heads, length, dim});
  std::vector<at::Tensor> blocks;
  for (int64_t first = 0; first < length; first += kBlock) {
    const int64_t rows = std::min(kBlock, length - first);
    const int64_t seen = first + rows;
    const at::Tensor block =
        queries.narrow(2, first, rows)
            .reshape({batch * kv_heads, group * rows, dim});
    const at::Tensor scores = at::bmm(block, keys.narrow(2, 0, seen))
                                  .view({batch * kv_heads, group, rows, seen})
                                  .to(at::kFloat);
    const at::Tensor weights =
        BlockWeights(scores, BlockMask(rows, q.options())).to(v.scalar_type());
    blocks.push_back(
        at::bmm(weights.view({batch * kv_heads, group * rows, seen}),
                values.narrow(1, 0, seen))
            .view({batch, heads, rows, dim}));
  }
  const at::Tensor out = blocks.size() == 1 ? blocks[0] : at::cat(blocks, 2);
  return out.transpose(1, 2).reshape({batch, length, heads * dim});
}

}  // namespace cairn
