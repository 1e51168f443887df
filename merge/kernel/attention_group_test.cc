#include "merge/kernel/attention_group.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "merge/kernel/testing/some_numbers.h"

namespace cairn {
namespace {

using ::cairn::testing::SomeNumbers;

// Two heads over the same keys, whose rows lie further apart than they need.
struct Example {
  static constexpr int64_t kHeads = 2, kWidth = 20, kValueWidth = 37;

  Example(int64_t queries, int64_t keys)
      : q(SomeNumbers(kHeads * queries * (kWidth + 3), 1)),
        k(SomeNumbers(keys * (kWidth + 5), 2)),
        v(SomeNumbers(keys * (kValueWidth + 7), 3)),
        bias(SomeNumbers(kHeads * queries * keys, 4)),
        out(static_cast<size_t>(queries * (kHeads * kValueWidth + 1)), 77.0F) {
    group = {.heads = kHeads,
             .queries = queries,
             .keys = keys,
             .width = kWidth,
             .value_width = kValueWidth,
             .q = q.data(),
             .q_head_stride = queries * (kWidth + 3),
             .q_stride = kWidth + 3,
             .k = k.data(),
             .k_stride = kWidth + 5,
             .v = v.data(),
             .v_stride = kValueWidth + 7,
             .out = out.data(),
             .out_head_stride = kValueWidth,
             .out_stride = kHeads * kValueWidth + 1,
             .scale = 0.7F};
  }
  Example(const Example&) = delete;

  void AddBias() {
    group.bias = bias.data();
    group.bias_head_stride = group.queries * group.keys;
    group.bias_stride = group.keys;
  }

  bool Sees(int64_t query, int64_t key) const {
    if (!group.is_causal) return true;
    const int64_t position = group.keys - group.queries + query;
    return key <= position &&
           (group.window == 0 || key > position - group.window);
  }

  double Score(int64_t head, int64_t query, int64_t key) const {
    const AttentionGroup& g = group;
    if (!Sees(query, key)) return -std::numeric_limits<double>::infinity();
    double sum = 0;
    for (int64_t i = 0; i < kWidth; ++i) {
      sum += static_cast<double>(
                 g.q[head * g.q_head_stride + query * g.q_stride + i]) *
             g.k[key * g.k_stride + i];
    }
    const double added =
        g.bias == nullptr
            ? 0
            : g.bias[head * g.bias_head_stride + query * g.bias_stride + key];
    return sum * double{g.scale} + added;
  }

  std::vector<double> Exact(int64_t head, int64_t query) const {
    std::vector<double> row(kValueWidth);
    double total = 0;
    for (int64_t key = 0; key < group.keys; ++key) {
      const double weight = std::exp(Score(head, query, key));
      total += weight;
      for (int64_t i = 0; i < kValueWidth; ++i) {
        row[static_cast<size_t>(i)] +=
            weight * group.v[key * group.v_stride + i];
      }
    }
    for (double& value : row) value /= total;
    return row;
  }

  const float* Row(int64_t head, int64_t query) const {
    return out.data() + query * group.out_stride + head * kValueWidth;
  }

  std::vector<float> q, k, v, bias, out;
  AttentionGroup group;
};

void ExpectExact(const Example& example) {
  const AttentionGroup& g = example.group;
  for (int64_t query = 0; query < g.queries; ++query) {
    for (int64_t head = 0; head < g.heads; ++head) {
      const std::vector<double> want = example.Exact(head, query);
      for (size_t i = 0; i < want.size(); ++i) {
        ASSERT_NEAR(example.Row(head, query)[i], want[i], 3e-6)
            << g.queries << " queries, " << g.keys << " keys, window "
            << g.window;
      }
    }
    ASSERT_EQ(example.Row(g.heads, query)[0], 77.0F) << "wrote past a row";
  }
}

TEST(AttentionGroupTest, FollowsTheDefinitionAtEveryEdge) {
  for (const int64_t queries : {1, 5, 6, 7, 12, 13, 25, 50}) {
    for (const int64_t past : {0, 1, 15, 16, 40}) {
      for (const int64_t window : {0, 1, 9, 16, 33}) {
        Example example(queries, past + queries);
        example.group.window = window;
        Attend(example.group);
        ExpectExact(example);
      }
    }
  }
}

TEST(AttentionGroupTest, TakesBiasesAndSeesAllWhereItIsNotCausal) {
  for (const bool is_causal : {true, false}) {
    Example example(30, 41);
    example.group.is_causal = is_causal;
    example.AddBias();
    Attend(example.group);
    ExpectExact(example);
  }
  Example wide(40, 3);
  wide.group.is_causal = false;
  Attend(wide.group);
  ExpectExact(wide);
}

TEST(AttentionGroupTest, AllKernelsGiveTheSameBits) {
  for (const int64_t window : {0, 20}) {
    Example best(61, 70), portable(61, 70);
    best.group.window = portable.group.window = window;
    Attend(best.group, BestProductKernels());
    Attend(portable.group, PortableProductKernels());
    EXPECT_EQ(best.out, portable.out);
  }
}

TEST(AttentionGroupTest, AQueryDoesNotDependOnThoseAfterIt) {
  Example all(61, 70);
  Attend(all.group);
  for (const int64_t count : {1, 3, 17, 60}) {
    Example some(61, 70);
    some.group.queries = count;
    some.group.keys = 9 + count;
    Attend(some.group);
    for (int64_t query = 0; query < count; ++query) {
      for (int64_t head = 0; head < Example::kHeads; ++head) {
        ASSERT_TRUE(std::equal(some.Row(head, query),
                               some.Row(head, query) + Example::kValueWidth,
                               all.Row(head, query)));
      }
    }
  }
}

TEST(AttentionGroupTest, WhatIsNotFiniteComesOut) {
  Example example(20, 20);
  example.v[5 * (Example::kValueWidth + 7)] =
      std::numeric_limits<float>::infinity();
  example.q[8 * (Example::kWidth + 3)] =
      std::numeric_limits<float>::quiet_NaN();
  Attend(example.group);
  EXPECT_FALSE(std::isfinite(example.Row(0, 19)[0]));
  EXPECT_TRUE(std::isnan(example.Row(0, 8)[1]));
  EXPECT_TRUE(std::isfinite(example.Row(0, 7)[1]));
}

}  // namespace
}  // namespace cairn
