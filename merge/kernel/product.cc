#include "merge/kernel/product.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "core/base/vector_clones.h"
#include "merge/kernel/product_kernels.h"

namespace cairn {
namespace {

constexpr int64_t kChunk = ProductKernels::kChunk;
// What an element of the packed matrices is.
enum class Form { kF32, kWidenedBf16, kBf16Pair };

// The nearest BF16, ties to even, in the upper half; the rest is zero.
inline uint32_t RoundedBits(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = bits + 0x7FFF + (bits >> 16 & 1);
  return (x != x ? bits | 0x400000 : rounded) & 0xFFFF0000;
}

inline float Widen(uint16_t x) {
  return std::bit_cast<float>(static_cast<uint32_t>(x) << 16);
}

CAIRN_VECTOR_CLONES
void RoundToBf16(const float* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; ++i) {
    to[i] = std::bit_cast<float>(RoundedBits(from[i]));
  }
}

// The same, packed.
CAIRN_VECTOR_CLONES
void PackBf16(const float* from, int64_t count, uint16_t* to) {
  for (int64_t i = 0; i < count; ++i) {
    to[i] = static_cast<uint16_t>(RoundedBits(from[i]) >> 16);
  }
}

inline float PairOf(uint32_t first, uint32_t second) {
  return std::bit_cast<float>(first | second << 16);
}

// Packs elements [column, columns) of W by one, from depth k on.
template <typename Element, typename Convert>
void PackByOne(const ProductKernels& kernels, const Element* w, int64_t stride,
               int64_t column, int64_t columns, int64_t k, int64_t depth,
               float* panel, Convert convert) {
  for (; k < depth; ++k) {
    for (int64_t c = column; c < columns; ++c) {
      panel[k * kernels.panel_columns + c] = convert(w[c * stride + k]);
    }
  }
}

template <typename Element, typename Turn, typename Convert>
void PackTurned(const ProductKernels& kernels, const Element* w, int64_t stride,
                int64_t columns, int64_t depth, float* panel, Turn* turn,
                Convert convert) {
  const int64_t width = kernels.panel_columns, whole = depth / 8 * 8;
  int64_t c = 0;
  for (; c + 8 <= columns; c += 8) {
    for (int64_t k = 0; k < whole; k += 8) {
      turn(w + c * stride + k, stride, panel + k * width + c, width);
    }
    PackByOne(kernels, w, stride, c, c + 8, whole, depth, panel, convert);
  }
  PackByOne(kernels, w, stride, c, columns, 0, depth, panel, convert);
}

// Part of the depth of a product, tile by tile and panel by panel. Depths and
// places are counted in elements of the form.
class DepthBlock {
 public:
  DepthBlock(const Product& product, const ProductKernels& kernels, Form form,
             int64_t first, int64_t depth, bool is_last,
             std::vector<float>& scratch)
      : product_(product),
        kernels_(kernels),
        form_(form),
        first_(first),
        depth_(depth),
        rounds_(is_last && product.rounds_out) {
    const auto rows = static_cast<size_t>((product.rows + kernels.tile_rows) *
                                          RoundUp(depth, kChunk));
    const auto panel =
        static_cast<size_t>(RoundUp(depth, kChunk) * kernels.panel_columns);
    if (scratch.size() < rows + panel) scratch.resize(rows + panel);
    rows_ = scratch.data() + panel;
    panel_ = scratch.data();
  }

  void Run() {
    PackRows();
    for (int64_t c = 0; c < product_.columns; c += kernels_.panel_columns) {
      const int64_t columns =
          std::min(kernels_.panel_columns, product_.columns - c);
      PackColumns(c, columns);
      RunPanel(c, columns);
    }
  }

 private:
  void PackRows() {
    const int64_t unit = form_ == Form::kBf16Pair ? 2 : 1;
    float* to = rows_;
    for (int64_t row = 0; row < product_.rows; row += kernels_.tile_rows) {
      const int64_t rows = std::min(kernels_.tile_rows, product_.rows - row);
      for (int64_t k = 0; k < depth_; k += kChunk) {
        const int64_t count = std::min(kChunk, depth_ - k);
        const float* from =
            product_.x + row * product_.x_stride + unit * (first_ + k);
        for (int64_t r = 0; r < rows; ++r, to += kChunk) {
          PackChunk(from + r * product_.x_stride, count, to);
        }
      }
    }
  }

  void PackChunk(const float* from, int64_t count, float* to) const {
    switch (form_) {
      case Form::kF32:
        // A few registers; by a count it would be a call.
        if (count == kChunk) {
          std::copy_n(from, kChunk, to);
        } else {
          std::copy_n(from, count, to);
        }
        return;
      case Form::kWidenedBf16:
        RoundToBf16(from, count, to);
        return;
      case Form::kBf16Pair:
        PackBf16(from, 2 * count, reinterpret_cast<uint16_t*>(to));
        std::fill(to + count, to + kChunk, 0.0F);
    }
  }

  void PackColumns(int64_t column, int64_t columns) {
    switch (form_) {
      case Form::kF32:
        PackPanel(kernels_, Weights(product_.w, column), product_.w_stride,
                  product_.is_in_out, columns, depth_, panel_);
        return;
      case Form::kWidenedBf16:
        PackWidened(Weights(product_.w_bf16, column), columns);
        return;
      case Form::kBf16Pair:
        PackPairs(column, columns);
        std::fill(panel_ + depth_ * kernels_.panel_columns,
                  panel_ + RoundUp(depth_, kChunk) * kernels_.panel_columns,
                  0.0F);
    }
  }

  // Where the column of W begins in this block.
  template <typename Element>
  const Element* Weights(const Element* w, int64_t column) const {
    return product_.is_in_out ? w + first_ * product_.w_stride + column
                              : w + column * product_.w_stride + first_;
  }

  void ClearMissing(int64_t columns) {
    const int64_t width = kernels_.panel_columns;
    if (columns < width) std::fill_n(panel_, RoundUp(depth_, 8) * width, 0.0F);
  }

  void PackWidened(const uint16_t* from, int64_t columns) {
    ClearMissing(columns);
    if (!product_.is_in_out) {
      PackTurned(kernels_, from, product_.w_stride, columns, depth_, panel_,
                 kernels_.turn_bf16, Widen);
      return;
    }
    float* to = panel_;
    for (int64_t k = 0; k < depth_; ++k, to += kernels_.panel_columns) {
      std::transform(from, from + columns, to, Widen);
      from += product_.w_stride;
    }
  }

  void PackPairs(int64_t column, int64_t columns) {
    if (!product_.is_in_out) {
      // Neighbours in memory are pairs already.
      const auto* words = reinterpret_cast<const float*>(product_.w_bf16) +
                          column * (product_.w_stride / 2) + first_;
      PackPanel(kernels_, words, product_.w_stride / 2, false, columns, depth_,
                panel_);
      return;
    }
    ClearMissing(columns);
    const uint16_t* from =
        product_.w_bf16 + 2 * first_ * product_.w_stride + column;
    float* to = panel_;
    for (int64_t k = 0; k < depth_; ++k, to += kernels_.panel_columns) {
      std::transform(from, from + columns, from + product_.w_stride, to,
                     PairOf);
      from += 2 * product_.w_stride;
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
      for (int64_t r = 0; rounds_ && r < rows; ++r) {
        float* to = out + r * product_.out_stride;
        RoundToBf16(to, columns, to);
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
  const Form form_;
  const int64_t first_;
  const int64_t depth_;
  const bool rounds_;
  float* rows_;
  float* panel_;
};

void Run(const Product& product, const ProductKernels& kernels, Form form,
         int64_t depth) {
  static thread_local std::vector<float> scratch;
  if (kernels.enter != nullptr) kernels.enter();
  for (int64_t k = 0; k < depth; k += kernels.depth) {
    const int64_t count = std::min(kernels.depth, depth - k);
    const bool is_last = k + count == depth;
    DepthBlock(product, kernels, form, k, count, is_last, scratch).Run();
  }
  if (kernels.leave != nullptr) kernels.leave();
}

}  // namespace

void PackPanel(const ProductKernels& kernels, const float* w, int64_t stride,
               bool is_in_out, int64_t columns, int64_t depth, float* panel) {
  const int64_t width = kernels.panel_columns;
  if (columns < width) std::fill_n(panel, RoundUp(depth, 8) * width, 0.0F);
  if (is_in_out) {
    for (int64_t k = 0; k < depth; ++k, w += stride) {
      std::copy_n(w, columns, panel + k * width);
    }
    return;
  }
  PackTurned(kernels, w, stride, columns, depth, panel, kernels.turn,
             [](float x) { return x; });
}

void Multiply(const Product& product, const ProductKernels& kernels) {
  const Form form = product.w_bf16 == nullptr ? Form::kF32 : Form::kWidenedBf16;
  Run(product, kernels, form, product.depth);
}

void MultiplyPairs(const Product& product, const ProductKernels& kernels) {
  Run(product, kernels, Form::kBf16Pair, product.depth / 2);
}

void Multiply(const Product& product) {
  const bool is_even = product.depth % 2 == 0 &&
                       (product.is_in_out || product.w_stride % 2 == 0);
  const ProductKernels* pairs = PairKernels(BestBf16Instruction());
  if (product.w_bf16 != nullptr && pairs != nullptr && is_even) {
    MultiplyPairs(product, *pairs);
    return;
  }
  Multiply(product, BestProductKernels());
}

Bf16Instruction BestBf16Instruction() {
  static const Bf16Instruction best = [] {
    for (auto instruction : {Bf16Instruction::kAmx, Bf16Instruction::kAvx512}) {
      if (PairKernels(instruction) != nullptr) return instruction;
    }
    return Bf16Instruction::kNone;
  }();
  return best;
}

}  // namespace cairn
