#include "merge/kernel/product.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "merge/kernel/product_kernels.h"
#include "merge/kernel/testing/some_numbers.h"

namespace cairn {
namespace {

using ::cairn::testing::SomeNumbers;

// The nearest BF16, ties to even.
float Rounded(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  return std::bit_cast<float>((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000);
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

  // Takes W for BF16, which it is rounded to; x may be anything.
  void UseBf16() {
    for (float& value : w) {
      w_bf16.push_back(
          static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16));
      value = std::bit_cast<float>(uint32_t{w_bf16.back()} << 16);
    }
    product.w = nullptr;
    product.w_bf16 = w_bf16.data();
  }
  // Has the rows of W begin at even places, as pairs ask for.
  void UseEvenRows() {
    product.w_stride += product.w_stride % 2;
    const int64_t rows = (product.is_in_out ? product.depth : product.columns);
    w.resize(static_cast<size_t>(product.w_stride * rows), 0.5F);
    w_bf16.resize(w.size(), 0x3F00);
    product.w_bf16 = w_bf16.data();
  }
  float Weight(int64_t row, int64_t column) const {
    const int64_t stride = product.w_stride;
    return w[static_cast<size_t>(product.is_in_out ? row * stride + column
                                                   : column * stride + row)];
  }

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
      const float factor = p.x[row * p.x_stride + k];
      add(static_cast<double>(p.w == nullptr ? Rounded(factor) : factor) *
          Weight(k, column));
    }
    return sum;
  }
  float At(int64_t row, int64_t column) const {
    return out[static_cast<size_t>(row * product.out_stride + column)];
  }

  std::vector<float> x, w, bias, out;
  std::vector<uint16_t> w_bf16;
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

// By whatever this machine has, by F32, and by pairs as they are written out.
TEST(MultiplyTest, TakesBf16) {
  for (const int64_t rows : {1, 7, 25}) {
    for (const int64_t columns : {5, 32, 67}) {
      for (const int64_t depth : {1, 7, 8, 30, 600, 1030}) {
        for (const bool is_in_out : {false, true}) {
          Example best(rows, columns, depth, is_in_out, true);
          Example widened(rows, columns, depth, is_in_out, true);
          best.UseBf16();
          widened.UseBf16();
          Multiply(best.product);
          Multiply(widened.product, BestProductKernels());
          ExpectExact(best);
          ExpectExact(widened);
        }
      }
    }
  }
}

// Depths whose rows are even, as pairs ask for.
TEST(MultiplyTest, PairsOfBf16FollowTheDefinition) {
  for (const int64_t depth : {2, 14, 30, 1030}) {
    for (const bool is_in_out : {false, true}) {
      Example example(7, 21, depth, is_in_out, true);
      example.UseBf16();
      example.UseEvenRows();
      MultiplyPairs(example.product, PortablePairKernels());
      ExpectExact(example);
      for (auto instruction :
           {Bf16Instruction::kAvx512, Bf16Instruction::kAmx}) {
        if (PairKernels(instruction) == nullptr) continue;
        MultiplyPairs(example.product, *PairKernels(instruction));
        ExpectExact(example);
      }
    }
  }
}

TEST(MultiplyTest, RoundsToBf16AsItIsDefined) {
  const float one = 1.0F, step = 0x1p-7F;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  const uint16_t unit = 0x3F80;
  const auto round = [&unit](float x) {
    float out = 0;
    Multiply({.x = &x,
              .x_stride = 1,
              .w_bf16 = &unit,
              .w_stride = 1,
              .out = &out,
              .out_stride = 1,
              .rows = 1,
              .columns = 1,
              .depth = 1});
    return out;
  };
  EXPECT_EQ(round(one + step / 2), one);
  EXPECT_EQ(round(one + step * 3 / 2), one + 2 * step);
  EXPECT_EQ(round(one + step * 0.51F), one + step);
  EXPECT_EQ(round(std::numeric_limits<float>::max()), infinity);
  EXPECT_EQ(round(-infinity), -infinity);
  EXPECT_TRUE(std::isnan(round(nan)));
}

TEST(MultiplyTest, AllKernelsGiveTheSameBits) {
  for (const int64_t depth : {17, 600}) {
    for (const bool is_in_out : {false, true}) {
      Example best(13, 45, depth, is_in_out, true);
      Example portable(13, 45, depth, is_in_out, true);
      Multiply(best.product, BestProductKernels());
      Multiply(portable.product, PortableProductKernels());
      EXPECT_EQ(best.out, portable.out);
      best.UseBf16();
      portable.UseBf16();
      Multiply(best.product, BestProductKernels());
      Multiply(portable.product, PortableProductKernels());
      EXPECT_EQ(best.out, portable.out);
    }
  }
}

void ExpectRowsAlone(bool is_bf16) {
  const auto prepare = [is_bf16](Example& example) {
    if (!is_bf16) return;
    example.UseBf16();
    example.UseEvenRows();
  };
  Example all(50, 45, 600, false, true);
  prepare(all);
  Multiply(all.product);
  for (const int64_t count : {1, 3, 12, 16, 17, 33}) {
    for (const int64_t first : {int64_t{0}, 50 - count}) {
      Example some(50, 45, 600, false, true);
      prepare(some);
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

TEST(MultiplyTest, ARowDoesNotDependOnItsCompany) {
  ExpectRowsAlone(/*is_bf16=*/false);
  ExpectRowsAlone(/*is_bf16=*/true);
}

}  // namespace
}  // namespace cairn
