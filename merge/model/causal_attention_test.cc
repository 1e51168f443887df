#include "merge/model/causal_attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace cairn {
namespace {

// The definition, without blocks and with every key repeated for its group.
at::Tensor PlainAttention(const at::Tensor& q, const at::Tensor& k,
                          const at::Tensor& v) {
  const int64_t group = q.size(1) / k.size(1), length = q.size(2);
  const at::Tensor keys = k.repeat_interleave(group, 1);
  const at::Tensor values = v.repeat_interleave(group, 1);
  const at::Tensor mask =
      at::full({length, length}, -std::numeric_limits<float>::infinity())
          .triu(1);
  const at::Tensor scores = at::matmul(q, keys.transpose(2, 3)) /
                                std::sqrt(static_cast<double>(q.size(3))) +
                            mask;
  return at::matmul(at::softmax(scores, -1), values)
      .transpose(1, 2)
      .reshape({q.size(0), length, -1});
}

TEST(CausalAttentionTest, EqualsTheDefinitionAtEveryBlockEdge) {
  for (int64_t length : {1, 2, 127, 128, 129, 300}) {
    at::manual_seed(static_cast<uint64_t>(length));
    const at::Tensor q = at::randn({2, 6, length, 8}, at::kDouble);
    const at::Tensor k = at::randn({2, 2, length, 8}, at::kDouble);
    const at::Tensor v = at::randn({2, 2, length, 8}, at::kDouble);
    const at::Tensor got =
        CausalAttention(q.to(at::kFloat), k.to(at::kFloat), v.to(at::kFloat));
    const at::Tensor want = PlainAttention(q, k, v);
    EXPECT_LT((got - want).abs().max().item<double>(), 1e-5) << length;
  }
}

TEST(CausalAttentionTest, DoesNotSeeWhatComesLater) {
  at::manual_seed(3);
  const at::Tensor q = at::randn({1, 4, 200, 8});
  at::Tensor k = at::randn({1, 2, 200, 8});
  at::Tensor v = at::randn({1, 2, 200, 8});
  const at::Tensor before = CausalAttention(q, k, v).narrow(1, 0, 150);
  k.narrow(2, 150, 50).fill_(9);
  v.narrow(2, 150, 50).fill_(-9);
  const at::Tensor after = CausalAttention(q, k, v).narrow(1, 0, 150);
  EXPECT_TRUE(before.equal(after));
}

}  // namespace
}  // namespace cairn
