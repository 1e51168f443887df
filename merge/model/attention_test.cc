#include "merge/model/attention.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace cairn {
namespace {

// The definition, without blocks and with every key repeated for its group.
at::Tensor PlainAttention(const at::Tensor& q, const at::Tensor& k,
                          const at::Tensor& v,
                          const AttentionOptions& options) {
  const int64_t group = q.size(1) / k.size(1);
  const int64_t queries = q.size(2), count = k.size(2);
  const at::Tensor keys = k.repeat_interleave(group, 1);
  const at::Tensor values = v.repeat_interleave(group, 1);
  at::Tensor scores = at::matmul(q, keys.transpose(2, 3)) * options.scale;
  if (options.softcap != 0) {
    scores = at::tanh(scores / options.softcap) * options.softcap;
  }
  if (options.bias.defined()) scores = scores + options.bias;
  if (options.is_causal) {
    const at::Tensor position =
        at::arange(count - queries, count, at::kLong).unsqueeze(1);
    const at::Tensor key = at::arange(count, at::kLong).unsqueeze(0);
    at::Tensor hidden = key > position;
    if (options.window > 0) {
      hidden = hidden.logical_or(key <= position - options.window);
    }
    scores =
        scores.masked_fill(hidden, -std::numeric_limits<double>::infinity());
  }
  return at::matmul(at::softmax(scores, -1), values)
      .transpose(1, 2)
      .reshape({q.size(0), queries, -1});
}

void ExpectDefinition(int64_t queries, int64_t keys,
                      const AttentionOptions& options) {
  at::manual_seed(static_cast<uint64_t>(queries));
  const at::Tensor q = at::randn({2, 6, queries, 8}, at::kDouble);
  const at::Tensor k = at::randn({2, 2, keys, 8}, at::kDouble);
  const at::Tensor v = at::randn({2, 2, keys, 8}, at::kDouble);
  const at::Tensor want = PlainAttention(q, k, v, options);
  // Once as autograd could go back through it, and once on the kernels.
  for (const bool has_gradients : {true, false}) {
    const c10::AutoGradMode mode(has_gradients);
    const at::Tensor got =
        Attend(q.to(at::kFloat), k.to(at::kFloat), v.to(at::kFloat), options);
    EXPECT_LT((got - want).abs().max().item<double>(), 1e-5)
        << queries << " queries, " << keys << " keys, window " << options.window
        << (has_gradients ? "" : ", on the kernels");
  }
}

TEST(AttentionTest, EqualsTheDefinitionAtEveryBlockEdge) {
  for (int64_t length : {1, 2, 127, 128, 129, 300}) {
    ExpectDefinition(length, length, {.scale = 0.35});
    ExpectDefinition(length, length, {.scale = 0.35, .is_causal = false});
  }
}

TEST(AttentionTest, QueriesMayFollowKeysThatWereKept) {
  for (int64_t past : {1, 100, 128}) {
    ExpectDefinition(1, past + 1, {.scale = 0.35});
    ExpectDefinition(150, past + 150, {.scale = 0.35});
    ExpectDefinition(150, past + 150, {.scale = 0.35, .window = 40});
  }
  ExpectDefinition(7, 200, {.scale = 0.35, .is_causal = false});
}

TEST(AttentionTest, AWindowHidesWhatLiesFurtherBack) {
  for (int64_t window : {1, 16, 127, 128, 129, 299, 300, 1000}) {
    ExpectDefinition(300, 300, {.scale = 0.35, .window = window});
  }
}

TEST(AttentionTest, ScoresAreCappedAndBiased) {
  ExpectDefinition(200, 200, {.scale = 0.35, .softcap = 0.7});
  AttentionOptions options = {.scale = 0.35, .is_causal = true};
  options.bias = at::randn({6, 200, 200});
  ExpectDefinition(200, 200, options);
  options.is_causal = false;
  options.bias = at::randn({1, 1, 200});
  ExpectDefinition(200, 200, options);
}

TEST(AttentionTest, DoesNotSeeWhatComesLater) {
  at::manual_seed(3);
  const at::Tensor q = at::randn({1, 4, 200, 8});
  at::Tensor k = at::randn({1, 2, 200, 8});
  at::Tensor v = at::randn({1, 2, 200, 8});
  const at::Tensor before = Attend(q, k, v, {}).narrow(1, 0, 150);
  k.narrow(2, 150, 50).fill_(9);
  v.narrow(2, 150, 50).fill_(-9);
  const at::Tensor after = Attend(q, k, v, {}).narrow(1, 0, 150);
  EXPECT_TRUE(before.equal(after));
}

}  // namespace
}  // namespace cairn
