#include "merge/kernel/attention_group.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "merge/kernel/row_kernels.h"

namespace cairn {
namespace {

constexpr int64_t kChunk = ProductKernels::kChunk;
// Tiles of queries that go over a panel of keys while it is at hand.
constexpr int64_t kTiles = 4;

// The keys [begin, end) that a query, or one of several, sees.
struct Sight {
  int64_t begin;
  int64_t end;
};

// A few neighbouring queries of a head.
struct Tile {
  int64_t first;
  int64_t rows;
  Sight sight;
  float* queries;  // packed
  float* scores;   // [rows, score_stride_]
  float* weights;  // packed, from the first key on
};

class GroupAttention {
 public:
  GroupAttention(const AttentionGroup& group, const ProductKernels& kernels,
                 std::vector<float>& scratch)
      : group_(group),
        kernels_(kernels),
        key_panel_(RoundUp(group.width, 8) * kernels.panel_columns),
        value_panel_(RoundUp(group.keys, kChunk) * kernels.panel_columns),
        score_stride_(RoundUp(group.keys, ProductKernels::kPanelColumnsMax) +
                      kChunk) {
    const int64_t rows = kTiles * kernels.tile_rows;
    const int64_t sizes[] = {key_panel_ * Panels(group.keys),
                             value_panel_ * Panels(group.value_width),
                             rows * RoundUp(group.width, kChunk),
                             rows * score_stride_,
                             rows * RoundUp(group.keys, kChunk)};
    float** const places[] = {&key_panels_, &value_panels_, &queries_, &scores_,
                              &weights_};
    int64_t total = 0;
    for (int64_t size : sizes) total += size;
    if (scratch.size() < static_cast<size_t>(total)) {
      scratch.resize(static_cast<size_t>(total));
    }
    float* next = scratch.data();
    for (size_t i = 0; i < std::size(sizes); ++i) {
      *places[i] = next;
      next += sizes[i];
    }
  }

  void Run() {
    PackPanels(group_.k, group_.k_stride, /*is_in_out=*/false, group_.keys,
               group_.width, key_panels_, key_panel_);
    PackPanels(group_.v, group_.v_stride, /*is_in_out=*/true,
               group_.value_width, group_.keys, value_panels_, value_panel_);
    const int64_t step = kTiles * kernels_.tile_rows;
    for (int64_t head = 0; head < group_.heads; ++head) {
      for (int64_t first = 0; first < group_.queries; first += step) {
        RunQueries(head, first, std::min(step, group_.queries - first));
      }
    }
  }

 private:
  int64_t Panels(int64_t columns) const {
    return (columns + kernels_.panel_columns - 1) / kernels_.panel_columns;
  }

  void PackPanels(const float* from, int64_t stride, bool is_in_out,
                  int64_t columns, int64_t depth, float* panels,
                  int64_t panel_size) const {
    const int64_t width = kernels_.panel_columns;
    for (int64_t c = 0; c < columns; c += width, panels += panel_size) {
      PackPanel(kernels_, from + c * (is_in_out ? 1 : stride), stride,
                is_in_out, std::min(width, columns - c), depth, panels);
    }
  }

  // Of queries [first, first + rows).
  Sight SightOf(int64_t first, int64_t rows) const {
    if (!group_.is_causal) return {0, group_.keys};
    const int64_t position = group_.keys - group_.queries + first;
    const int64_t begin =
        group_.window == 0 ? 0
                           : std::max<int64_t>(0, position - group_.window + 1);
    return {begin, position + rows};
  }

  void RunQueries(int64_t head, int64_t first, int64_t count) const {
    Tile tiles[kTiles];
    int64_t used = 0;
    for (int64_t row = 0; row < count; row += kernels_.tile_rows, ++used) {
      const int64_t rows = std::min(kernels_.tile_rows, count - row);
      tiles[used] = {.first = first + row,
                     .rows = rows,
                     .sight = SightOf(first + row, rows),
                     .queries = queries_ + row * RoundUp(group_.width, kChunk),
                     .scores = scores_ + row * score_stride_,
                     .weights = weights_ + row * RoundUp(group_.keys, kChunk)};
      PackQueries(head, tiles[used]);
    }
    ComputeScores(tiles, used);
    float shares[kTiles * ProductKernels::kTileRowsMax];
    for (int64_t t = 0; t < used; ++t) {
      for (int64_t r = 0; r < tiles[t].rows; ++r) {
        shares[tiles[t].first - first + r] = 1.0F / Weigh(head, tiles[t], r);
      }
    }
    AddUpValues(head, tiles, used, shares);
  }

  void PackQueries(int64_t head, const Tile& tile) const {
    const float* from =
        group_.q + head * group_.q_head_stride + tile.first * group_.q_stride;
    float* to = tile.queries;
    for (int64_t k = 0; k < group_.width; k += kChunk) {
      const int64_t count = std::min(kChunk, group_.width - k);
      for (int64_t r = 0; r < tile.rows; ++r, to += kChunk) {
        const float* row = from + r * group_.q_stride + k;
        for (int64_t i = 0; i < count; ++i) to[i] = row[i] * group_.scale;
      }
    }
  }

  // The scores of the keys that a tile sees, and of some beside them.
  void ComputeScores(const Tile* tiles, int64_t count) const {
    const float zeros[ProductKernels::kPanelColumnsMax] = {};
    const int64_t width = kernels_.panel_columns;
    const int64_t end = tiles[count - 1].sight.end;
    for (int64_t key = tiles[0].sight.begin / width * width; key < end;
         key += width) {
      const float* panel = key_panels_ + key / width * key_panel_;
      for (int64_t t = 0; t < count; ++t) {
        const Tile& tile = tiles[t];
        if (key >= tile.sight.end || key + width <= tile.sight.begin) continue;
        kernels_.tiles[tile.rows](tile.queries, panel, group_.width, zeros,
                                  tile.scores + key, score_stride_);
      }
    }
  }

  // Row r of the weights, times their sum, which is the result.
  float Weigh(int64_t head, const Tile& tile, int64_t r) const {
    constexpr float kHidden = -std::numeric_limits<float>::infinity();
    const Sight sight = SightOf(tile.first + r, 1);
    float* scores = tile.scores + r * score_stride_;
    if (group_.bias != nullptr) {
      const float* bias = group_.bias + head * group_.bias_head_stride +
                          (tile.first + r) * group_.bias_stride;
      for (int64_t i = sight.begin; i < sight.end; ++i) scores[i] += bias[i];
    }
    const int64_t begin = sight.begin / kChunk * kChunk;
    const int64_t end = RoundUp(sight.end, kChunk);
    std::fill(scores + begin, scores + sight.begin, kHidden);
    std::fill(scores + sight.end, scores + end, kHidden);
    const int64_t stride = tile.rows * kChunk;
    float* weights = tile.weights + r * kChunk;
    for (int64_t i = tile.sight.begin / kChunk * kChunk; i < begin;
         i += kChunk) {
      std::fill_n(weights + i / kChunk * stride, kChunk, 0.0F);
    }
    for (int64_t i = end; i < tile.sight.end; i += kChunk) {
      std::fill_n(weights + i / kChunk * stride, kChunk, 0.0F);
    }
    return ExpChunks(scores + begin, end - begin, stride,
                     weights + begin / kChunk * stride);
  }

  void AddUpValues(int64_t head, const Tile* tiles, int64_t count,
                   const float* shares) const {
    const int64_t width = kernels_.panel_columns;
    const float* panel = value_panels_;
    for (int64_t c = 0; c < group_.value_width; c += width) {
      const int64_t columns = std::min(width, group_.value_width - c);
      for (int64_t t = 0; t < count; ++t) {
        AddUpTile(tiles[t], panel, columns, shares + t * kernels_.tile_rows,
                  group_.out + head * group_.out_head_stride +
                      tiles[t].first * group_.out_stride + c);
      }
      panel += value_panel_;
    }
  }

  void AddUpTile(const Tile& tile, const float* panel, int64_t columns,
                 const float* shares, float* out) const {
    const float zeros[ProductKernels::kPanelColumnsMax] = {};
    float sums[ProductKernels::kTileRowsMax * ProductKernels::kPanelColumnsMax];
    const int64_t width = kernels_.panel_columns;
    const int64_t begin = tile.sight.begin / kChunk * kChunk;
    kernels_.tiles[tile.rows](tile.weights + begin * tile.rows,
                              panel + begin * width, tile.sight.end - begin,
                              zeros, sums, width);
    for (int64_t r = 0; r < tile.rows; ++r, out += group_.out_stride) {
      for (int64_t i = 0; i < columns; ++i) {
        out[i] = sums[r * width + i] * shares[r];
      }
    }
  }

  const AttentionGroup& group_;
  const ProductKernels& kernels_;
  const int64_t key_panel_;
  const int64_t value_panel_;
  const int64_t score_stride_;
  float* key_panels_;
  float* value_panels_;
  float* queries_;
  float* scores_;
  float* weights_;
};

}  // namespace

void Attend(const AttentionGroup& group, const ProductKernels& kernels) {
  static thread_local std::vector<float> scratch;
  GroupAttention(group, kernels, scratch).Run();
}

void Attend(const AttentionGroup& group) {
  Attend(group, BestProductKernels());
}

}  // namespace cairn
