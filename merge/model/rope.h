#ifndef CAIRN_MERGE_MODEL_ROPE_H_
#define CAIRN_MERGE_MODEL_ROPE_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "merge/model/config_reader.h"

namespace cairn {

// Rotary position embeddings and the ways to stretch them, each computed in
// F32 as transformers does, so that long positions agree as well.
struct RopeConfig {
  enum class Kind { kDefault, kLinear, kDynamic, kYarn, kLlama3, kLongRope };

  Kind kind = Kind::kDefault;
  double theta = 10000.0;
  double factor = 1.0;
  // Share of each head's dimensions that turns; the rest stays as it is.
  double rotary_share = 1.0;
  // Yarn, llama3 and longrope: length the frequencies were trained for.
  int64_t original_length = 0;
  // llama3.
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  // Longrope: divisors of the frequencies up to the original length and past
  // it, one a frequency.
  std::vector<double> short_factors;
  std::vector<double> long_factors;
  // Yarn.
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  std::optional<double> attention_factor;
  double mscale = 0.0;          // 0: not given
  double mscale_all_dim = 0.0;  // 0: not given
  bool truncate = true;

  // What config.json says, in either style: `rope_parameters`, or a theta
  // beside `rope_scaling`. `theta_key` is the older name of the theta,
  // `rotary_key` that of the share (none: null), `share` its default,
  // `head_dim` and `longest` the model's. UNIMPLEMENTED names a kind that is
  // not known here; other faults are the reader's.
  static absl::StatusOr<RopeConfig> Read(ConfigReader& config,
                                         const char* theta_key,
                                         const char* rotary_key, double share,
                                         int64_t head_dim, int64_t longest);

  // Dimensions of a head that turn.
  int64_t RotaryDim(int64_t head_dim) const {
    return static_cast<int64_t>(static_cast<double>(head_dim) * rotary_share);
  }
  // Longest input of a model of `longest` positions.
  int64_t LongestInput(int64_t longest) const;
  // Whether frequencies depend on the length of the input, so that keys cannot
  // be kept while it grows.
  bool depends_on_length() const {
    return kind == Kind::kDynamic || kind == Kind::kLongRope;
  }
};

// Cosines and sines of every position and frequency, each [length, dim / 2].
struct RopeTable {
  at::Tensor cos;
  at::Tensor sin;
};

// `dim` is the even number of dimensions that turn. `longest` is
// max_position_embeddings, past which dynamic scaling sets in; it goes by
// `length` alone.
RopeTable MakeRopeTable(const RopeConfig& rope, int64_t dim, int64_t longest,
                        int64_t length, at::Device device);

// Rotates x, [..., length, head_dim]: the first and second half of its first
// `dim` dimensions are the two coordinates of each frequency, and what follows
// stays. Arithmetic is F32; the result has the type of x.
at::Tensor ApplyRope(const at::Tensor& x, const RopeTable& table);

// Rows [first, first + count) of a table.
RopeTable RowsOf(const RopeTable& table, int64_t first, int64_t count);

}  // namespace cairn

#endif  // CAIRN_MERGE_MODEL_ROPE_H_
