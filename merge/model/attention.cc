#include "merge/model/attention.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "merge/kernel/attention_group.h"
#include "merge/model/layers.h"

namespace cairn {
namespace {

constexpr int64_t kBlock = 128;

// Queries [first, first + rows) of all and the keys that some of them sees.
struct Block {
  int64_t first;
  int64_t rows;
  int64_t begin;  // of the keys
  int64_t end;
  int64_t position;  // of the first query among the keys; causal only
};

Block MakeBlock(int64_t first, int64_t queries, int64_t keys,
                const AttentionOptions& options) {
  const int64_t rows = std::min(kBlock, queries - first);
  if (!options.is_causal) return {first, rows, 0, keys, 0};
  const int64_t position = keys - queries + first;
  const int64_t begin =
      options.window == 0 ? 0
                          : std::max<int64_t>(0, position - options.window + 1);
  return {first, rows, begin, position + rows, position};
}

// Hides, in scores [..., rows, keys] of a causal block, the keys that a query
// may not see.
void HideUnseen(const Block& block, int64_t window, at::Tensor& scores) {
  constexpr double kHidden = -std::numeric_limits<double>::infinity();
  const auto options = scores.options();
  if (block.rows > 1) {
    const at::Tensor ahead =
        at::full({block.rows, block.rows}, kHidden, options).triu(1);
    scores.narrow(-1, block.position - block.begin, block.rows).add_(ahead);
  }
  if (window == 0 || block.end - block.begin <= window) return;
  // Row i sees keys from its own position - window + 1 on.
  const int64_t offset = block.position - window - block.begin;
  const int64_t width = block.position + block.rows - window - block.begin;
  const at::Tensor behind =
      at::full({block.rows, width}, kHidden, options).tril(offset);
  scores.narrow(-1, 0, width).add_(behind);
}

// What each query [..., rows, :] gives to the keys [..., seen] of its block.
at::Tensor BlockWeights(const at::Tensor& products, const Block& block,
                        const AttentionOptions& options) {
  at::Tensor scores = products.to(at::kFloat);
  if (options.softcap != 0) {
    scores = at::tanh(scores / options.softcap) * options.softcap;
  }
  if (options.bias.defined()) {
    at::Tensor bias =
        options.bias.narrow(-1, block.begin, block.end - block.begin);
    if (bias.size(1) != 1) bias = bias.narrow(1, block.first, block.rows);
    scores = scores + bias;
  }
  if (options.is_causal) HideUnseen(block, options.window, scores);
  return at::softmax(scores, -1);
}

// x in F32, with its last dimension packed.
at::Tensor PackedRows(const at::Tensor& x) {
  const at::Tensor wide = x.to(at::kFloat);
  return wide.stride(3) == 1 ? wide : wide.contiguous();
}

at::Tensor AttendOnKernels(const at::Tensor& q, const at::Tensor& k,
                           const at::Tensor& v,
                           const AttentionOptions& options) {
  const at::Tensor queries = PackedRows(q), keys = PackedRows(k);
  const at::Tensor values = PackedRows(v);
  const int64_t batch = q.size(0), heads = q.size(1), length = q.size(2);
  const int64_t kv_heads = k.size(1), group = heads / kv_heads;
  const int64_t width = v.size(3);
  at::Tensor out = at::empty({batch, length, heads * width}, queries.options());
  at::Tensor bias;
  if (options.bias.defined()) {
    bias = options.bias.to(at::kFloat).expand({heads, length, k.size(2)});
    if (bias.stride(2) != 1) bias = bias.contiguous();
  }
  for (int64_t i = 0; i < batch * kv_heads; ++i) {
    const int64_t b = i / kv_heads, kv_head = i % kv_heads;
    const int64_t head = kv_head * group;
    AttentionGroup part = {
        .heads = group,
        .queries = length,
        .keys = k.size(2),
        .width = q.size(3),
        .value_width = width,
        .q = queries.data_ptr<float>() + b * queries.stride(0) +
             head * queries.stride(1),
        .q_head_stride = queries.stride(1),
        .q_stride = queries.stride(2),
        .k = keys.data_ptr<float>() + b * keys.stride(0) +
             kv_head * keys.stride(1),
        .k_stride = keys.stride(2),
        .v = values.data_ptr<float>() + b * values.stride(0) +
             kv_head * values.stride(1),
        .v_stride = values.stride(2),
        .out = out.data_ptr<float>() + b * out.stride(0) + head * width,
        .out_head_stride = width,
        .out_stride = out.stride(1),
        .scale = static_cast<float>(options.scale),
        .is_causal = options.is_causal,
        .window = options.is_causal ? options.window : 0};
    if (bias.defined()) {
      part.bias = bias.data_ptr<float>() + head * bias.stride(0);
      part.bias_head_stride = bias.stride(0);
      part.bias_stride = bias.stride(1);
    }
    Attend(part);
  }
  return out;
}

}  // namespace

at::Tensor Attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                  const AttentionOptions& options) {
  if (RunsOnKernels(q) && options.softcap == 0) {
    return AttendOnKernels(q, k, v, options);
  }
  const int64_t batch = q.size(0), heads = q.size(1), length = q.size(2);
  const int64_t dim = q.size(3), kv_heads = k.size(1), group = heads / kv_heads;
  const int64_t pairs = batch * kv_heads, count = k.size(2);
  const at::Tensor queries = (q * options.scale)
                                 .to(v.scalar_type())
                                 .reshape({pairs, group, length, dim});
  const at::Tensor keys =
      k.to(v.scalar_type()).reshape({pairs, count, dim}).transpose(1, 2);
  const at::Tensor values = v.reshape({pairs, count, dim});
  std::vector<at::Tensor> blocks;
  for (int64_t first = 0; first < length; first += kBlock) {
    const Block block = MakeBlock(first, length, count, options);
    const int64_t rows = block.rows, seen = block.end - block.begin;
    const at::Tensor products =
        at::bmm(
            queries.narrow(2, first, rows).reshape({pairs, group * rows, dim}),
            keys.narrow(2, block.begin, seen))
            .view({batch, heads, rows, seen});
    const at::Tensor weights =
        BlockWeights(products, block, options).to(v.scalar_type());
    blocks.push_back(at::bmm(weights.view({pairs, group * rows, seen}),
                             values.narrow(1, block.begin, seen))
                         .view({batch, heads, rows, v.size(3)}));
  }
  const at::Tensor out = blocks.size() == 1 ? blocks[0] : at::cat(blocks, 2);
  return out.transpose(1, 2).reshape({batch, length, heads * v.size(3)});
}

}  // namespace cairn
