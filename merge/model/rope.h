#ifndef CAIRN_MERGE_MODEL_ROPE_H_
#define CAIRN_MERGE_MODEL_ROPE_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace cairn {

// Rotary position embeddings and the ways to stretch them, each computed in
// F32 as transformers does, so that long positions agree as well.
struct RopeConfig {
  enum class Kind { kDefault, kLinear, kDynamic, kYarn, kLlama3 };

  Kind kind = Kind::kDefault;
  double theta = 10000.0;
  double factor = 1.0;
  // Yarn and llama3: length the frequencies were trained for.
  int64_t original_length = 0;
  // llama3.
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  // Yarn.
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  std::optional<double> attention_factor;
  double mscale = 0.0;          // 0: not given
  double mscale_all_dim = 0.0;  // 0: not given
  bool truncate = true;
};

// Cosines and sines of every position and frequency, each [length, dim / 2].
struct RopeTable {
  at::Tensor cos;
  at::Tensor sin;
};

// `dim` is even. `longest` is max_position_embeddings, past which dynamic
// scaling sets in; it goes by `length` alone.
RopeTable MakeRopeTable(const RopeConfig& rope, int64_t dim, int64_t longest,
                        int64_t length, at::Device device);

// Rotates x, [..., length, dim], whose first and second half of `dim` are the
// two coordinates of each frequency. Arithmetic and result are F32.
at::Tensor ApplyRope(const at::Tensor& x, const RopeTable& table);

}  // namespace cairn

#endif  // CAIRN_MERGE_MODEL_ROPE_H_
