#include "merge/kernel/product.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "merge/kernel/product_kernels.h"

namespace cairn {
namespace {

std::vector<float> SomeNumbers(int64_t count, uint32_t seed) {
  std::vector<float> out;
  uint32_t state = seed;
  for (int64_t i = 0; i < count; ++i) {
    state = state * 1664525 + 1013904223;
    out.push_back(static_cast<float>(state >> 8) / (1 << 23) - 1);
  }
  return out;
}

// A product with all its arrays; rows are three elements longer than used.
struct Example {
  Example(int64_t rows, int64_t columns, int64_t depth, bool is_in_out,
          bool has_bias)
      : x(SomeNumbers(rows * (depth + 3), 1)),
        w(SomeNumbers((columns + 3) * (depth + 3), 2)),
        bias(SomeNumbers(columns, 3)),
        out(static_cast<size_t>(rows * (columns + 3)), 77.0F),
        product{.x = x.data(),
                .x_stride = depth + 3,
                .w = w.data(),
                .w_stride = is_in_out ? columns + 3 : depth + 3,
                .is_in_out = is_in_out,
                .bias = has_bias ? bias.data() : nullptr,
                .out = out.data(),
                .out_stride = columns + 3,
                .rows = rows,
                .columns = columns,
                .depth = depth} {}
  Example(const Example&) = delete;

  struct Sum {
    double value = 0;
    double magnitude = 0;  // of what was added up
  };
  Sum Exact(int64_t row, int64_t column) const {
    const Product& p = product;
    Sum sum;
    const auto add = [&sum](double term) {
      sum.value += term;
      sum.magnitude += std::fabs(term);
    };
    if (p.bias != nullptr) add(p.bias[column]);
    for (int64_t k = 0; k < p.depth; ++k) {
      const float weight = p.is_in_out ? p.w[k * p.w_stride + column]
                                       : p.w[column * p.w_stride + k];
      add(static_cast<double>(p.x[row * p.x_stride + k]) * weight);
    }
    return sum;
  }
  float At(int64_t row, int64_t column) const {
    return out[static_cast<size_t>(row * product.out_stride + column)];
  }

  std::vector<float> x, w, bias, out;
  Product product;
};

void ExpectExact(const Example& example) {
  const Product& p = example.product;
  for (int64_t r = 0; r < p.rows; ++r) {
    for (int64_t c = 0; c < p.columns; ++c) {
      const Example::Sum want = example.Exact(r, c);
      ASSERT_NEAR(example.At(r, c), want.value, 1e-6 * want.magnitude + 1e-7)
          << p.rows << " x " << p.columns << " x " << p.depth;
    }
    for (int64_t c = p.columns; c < p.out_stride; ++c) {
      ASSERT_EQ(example.At(r, c), 77.0F) << "wrote past a row";
    }
  }
}

TEST(MultiplyTest, FollowsTheDefinitionAtEveryEdge) {
  for (const int64_t rows : {1, 5, 6, 11, 12, 13, 25}) {
    for (const int64_t columns : {1, 8, 15, 16, 31, 32, 33, 67}) {
      for (const int64_t depth : {1, 7, 8, 16, 19}) {
        Example example(rows, columns, depth, false, rows % 2 == 1);
        Multiply(example.product);
        ExpectExact(example);
      }
    }
  }
}

TEST(MultiplyTest, TakesBothLayoutsAndAnyDepth) {
  for (const int64_t depth : {100, 511, 512, 513, 1100}) {
    for (const bool is_in_out : {false, true}) {
      Example example(14, 35, depth, is_in_out, true);
      Multiply(example.product);
      ExpectExact(example);
    }
  }
}

TEST(MultiplyTest, AllKernelsGiveTheSameBits) {
  for (const int64_t depth : {17, 600}) {
    for (const bool is_in_out : {false, true}) {
      Example best(13, 45, depth, is_in_out, true);
      Example portable(13, 45, depth, is_in_out, true);
      Multiply(best.product, BestProductKernels());
      Multiply(portable.product, PortableProductKernels());
      EXPECT_EQ(best.out, portable.out);
    }
  }
}

TEST(MultiplyTest, ARowDoesNotDependOnItsCompany) {
  Example all(30, 45, 600, false, true);
  Multiply(all.product);
  for (const int64_t count : {1, 3, 12, 17}) {
    for (const int64_t first : {int64_t{0}, 30 - count}) {
      Example some(30, 45, 600, false, true);
      some.product.x += first * some.product.x_stride;
      some.product.rows = count;
      Multiply(some.product);
      for (int64_t r = 0; r < count; ++r) {
        for (int64_t c = 0; c < 45; ++c) {
          ASSERT_EQ(some.At(r, c), all.At(first + r, c));
        }
      }
    }
  }
}

}  // namespace
}  // namespace cairn
