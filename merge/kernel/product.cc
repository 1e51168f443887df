#include "merge/kernel/product.h"

#include <algorithm>
#include <vector>

#include "merge/kernel/product_kernels.h"

namespace cairn {
namespace {

constexpr int64_t kChunk = ProductKernels::kChunk;
// Of the depth that is done at a time: a panel of it lies in the second cache.
constexpr int64_t kDepth = 512;
static_assert(kDepth % kChunk == 0);

int64_t RoundUp(int64_t value, int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

// Part of the depth of a product, tile by tile and panel by panel.
class DepthBlock {
 public:
  DepthBlock(const Product& product, const ProductKernels& kernels,
             int64_t first, int64_t depth, std::vector<float>& scratch)
      : product_(product), kernels_(kernels), first_(first), depth_(depth) {
    const auto rows = static_cast<size_t>((product.rows + kernels.tile_rows) *
                                          RoundUp(depth, kChunk));
    const auto panel =
        static_cast<size_t>(RoundUp(depth, 8) * kernels.panel_columns);
    if (scratch.size() < rows + panel) scratch.resize(rows + panel);
    rows_ = scratch.data() + panel;
    panel_ = scratch.data();
  }

  void Run() {
    PackRows();
    for (int64_t c = 0; c < product_.columns; c += kernels_.panel_columns) {
      const int64_t columns =
          std::min(kernels_.panel_columns, product_.columns - c);
      PackPanel(c, columns);
      RunPanel(c, columns);
    }
  }

 private:
  void PackRows() {
    float* to = rows_;
    for (int64_t row = 0; row < product_.rows; row += kernels_.tile_rows) {
      const int64_t rows = std::min(kernels_.tile_rows, product_.rows - row);
      for (int64_t k = 0; k < depth_; k += kChunk) {
        const int64_t count = std::min(kChunk, depth_ - k);
        const float* from = product_.x + row * product_.x_stride + first_ + k;
        for (int64_t r = 0; r < rows; ++r, to += kChunk) {
          std::copy_n(from + r * product_.x_stride, count, to);
        }
      }
    }
  }

  // Columns past the last are zeros.
  void PackPanel(int64_t column, int64_t columns) {
    const int64_t width = kernels_.panel_columns;
    if (columns < width) std::fill_n(panel_, RoundUp(depth_, 8) * width, 0.0F);
    if (product_.is_in_out) {
      const float* from = product_.w + first_ * product_.w_stride + column;
      for (int64_t k = 0; k < depth_; ++k, from += product_.w_stride) {
        std::copy_n(from, columns, panel_ + k * width);
      }
      return;
    }
    const float* from = product_.w + column * product_.w_stride + first_;
    const int64_t whole = depth_ / 8 * 8;
    int64_t c = 0;
    for (; c + 8 <= columns; c += 8) {
      for (int64_t k = 0; k < whole; k += 8) {
        kernels_.turn(from + c * product_.w_stride + k, product_.w_stride,
                      panel_ + k * width + c, width);
      }
      PackByOne(from, c, c + 8, whole);
    }
    PackByOne(from, c, columns, 0);
  }

  void PackByOne(const float* from, int64_t column, int64_t end, int64_t k) {
    for (; k < depth_; ++k) {
      for (int64_t c = column; c < end; ++c) {
        panel_[k * kernels_.panel_columns + c] =
            from[c * product_.w_stride + k];
      }
    }
  }

  void RunPanel(int64_t column, int64_t columns) {
    constexpr int64_t kWidthMax = ProductKernels::kPanelColumnsMax;
    const int64_t width = kernels_.panel_columns;
    float bias[kWidthMax] = {};
    if (product_.bias != nullptr) {
      std::copy_n(product_.bias + column, columns, bias);
    }
    const float* begin = first_ == 0 ? bias : nullptr;
    float edge[ProductKernels::kTileRowsMax * kWidthMax];
    const float* x = rows_;
    for (int64_t row = 0; row < product_.rows; row += kernels_.tile_rows) {
      const int64_t rows = std::min(kernels_.tile_rows, product_.rows - row);
      float* out = product_.out + row * product_.out_stride + column;
      ProductKernels::Tile* tile = kernels_.tiles[rows];
      if (columns == width) {
        tile(x, panel_, depth_, begin, out, product_.out_stride);
      } else {
        Move(out, product_.out_stride, rows, columns, edge, width);
        tile(x, panel_, depth_, begin, edge, width);
        Move(edge, width, rows, columns, out, product_.out_stride);
      }
      x += rows * RoundUp(depth_, kChunk);
    }
  }

  static void Move(const float* from, int64_t from_stride, int64_t rows,
                   int64_t columns, float* to, int64_t to_stride) {
    for (int64_t r = 0; r < rows; ++r) {
      std::copy_n(from + r * from_stride, columns, to + r * to_stride);
    }
  }

  const Product& product_;
  const ProductKernels& kernels_;
  const int64_t first_;
  const int64_t depth_;
  float* rows_;
  float* panel_;
};

}  // namespace

void Multiply(const Product& product, const ProductKernels& kernels) {
  static thread_local std::vector<float> scratch;
  for (int64_t k = 0; k < product.depth; k += kDepth) {
    DepthBlock(product, kernels, k, std::min(kDepth, product.depth - k),
               scratch)
        .Run();
  }
}

void Multiply(const Product& product) {
  Multiply(product, BestProductKernels());
}

}  // namespace cairn
