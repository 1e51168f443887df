#include "merge/model/rope.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "merge/kernel/row_kernels.h"
#include "merge/model/layers.h"

namespace cairn {
namespace {

// theta^(2i / dim) for each frequency i.
at::Tensor Wavelengths(double theta, int64_t dim) {
  const at::Tensor exponents =
      at::arange(0, dim, 2, at::kLong).to(at::kFloat) / dim;
  return at::pow(theta, exponents);
}

at::Tensor InverseFrequencies(double theta, int64_t dim) {
  return 1.0 / Wavelengths(theta, dim);
}

double DynamicTheta(const RopeConfig& rope, int64_t dim, int64_t longest,
                    int64_t length) {
  const double stretch = static_cast<double>(std::max(length, longest)) /
                         static_cast<double>(longest);
  const double exponent =
      static_cast<double>(dim) / static_cast<double>(dim - 2);
  return rope.theta *
         std::pow(rope.factor * stretch - (rope.factor - 1), exponent);
}

at::Tensor Llama3Frequencies(const RopeConfig& rope, int64_t dim) {
  const at::Tensor plain = InverseFrequencies(rope.theta, dim);
  const double length = static_cast<double>(rope.original_length);
  const at::Tensor wavelength = 2 * std::numbers::pi / plain;
  const at::Tensor is_long = wavelength > length / rope.low_freq_factor;
  const at::Tensor is_short = wavelength < length / rope.high_freq_factor;
  const at::Tensor scaled = at::where(is_long, plain / rope.factor, plain);
  const at::Tensor smooth = (length / wavelength - rope.low_freq_factor) /
                            (rope.high_freq_factor - rope.low_freq_factor);
  const at::Tensor blended =
      (1 - smooth) * scaled / rope.factor + smooth * scaled;
  return at::where(is_long.logical_or(is_short), scaled, blended);
}

// The frequency that turns `rotations` times over the original length.
double CorrectionDim(const RopeConfig& rope, double rotations, double dim) {
  const double length = static_cast<double>(rope.original_length);
  return dim * std::log(length / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(rope.theta));
}

at::Tensor YarnFrequencies(const RopeConfig& rope, int64_t dim) {
  const double width = static_cast<double>(dim);
  double low = CorrectionDim(rope, rope.beta_fast, width);
  double high = CorrectionDim(rope, rope.beta_slow, width);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, width - 1);
  if (low == high) high += 0.001;
  const at::Tensor ramp =
      ((at::arange(dim / 2, at::kFloat) - low) / (high - low)).clamp(0, 1);
  const at::Tensor keep = 1 - ramp;
  const at::Tensor wavelengths = Wavelengths(rope.theta, dim);
  return 1.0 / (rope.factor * wavelengths) * (1 - keep) +
         1.0 / wavelengths * keep;
}

at::Tensor LongRopeFrequencies(const RopeConfig& rope, int64_t dim,
                               int64_t length) {
  const std::vector<double>& factors =
      length > rope.original_length ? rope.long_factors : rope.short_factors;
  const at::Tensor divisors = at::tensor(factors, at::kFloat);
  return 1.0 / (divisors * Wavelengths(rope.theta, dim));
}

double YarnMscale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

// What Yarn and longrope multiply cosines and sines with.
double AttentionFactor(const RopeConfig& rope) {
  const bool is_long = rope.kind == RopeConfig::Kind::kLongRope;
  if (rope.kind != RopeConfig::Kind::kYarn && !is_long) return 1.0;
  if (rope.attention_factor.has_value()) return *rope.attention_factor;
  if (is_long) {
    const double length = static_cast<double>(rope.original_length);
    return rope.factor <= 1
               ? 1.0
               : std::sqrt(1 + std::log(rope.factor) / std::log(length));
  }
  if (rope.mscale != 0 && rope.mscale_all_dim != 0) {
    return YarnMscale(rope.factor, rope.mscale) /
           YarnMscale(rope.factor, rope.mscale_all_dim);
  }
  return YarnMscale(rope.factor, 1.0);
}

at::Tensor Frequencies(const RopeConfig& rope, int64_t dim, int64_t longest,
                       int64_t length) {
  switch (rope.kind) {
    case RopeConfig::Kind::kLinear:
      return InverseFrequencies(rope.theta, dim) / rope.factor;
    case RopeConfig::Kind::kDynamic:
      return InverseFrequencies(DynamicTheta(rope, dim, longest, length), dim);
    case RopeConfig::Kind::kYarn:
      return YarnFrequencies(rope, dim);
    case RopeConfig::Kind::kLlama3:
      return Llama3Frequencies(rope, dim);
    case RopeConfig::Kind::kLongRope:
      return LongRopeFrequencies(rope, dim, length);
    case RopeConfig::Kind::kDefault:
      break;
  }
  return InverseFrequencies(rope.theta, dim);
}

// ApplyRope of x [B, heads, length, head_dim] on the kernels.
at::Tensor RotateHeads(const at::Tensor& x, const RopeTable& table) {
  at::Tensor in = x.to(at::kFloat);
  if (in.stride(3) != 1) in = in.contiguous();
  at::Tensor out = at::empty(in.sizes(), in.options());
  const at::Tensor cos = table.cos.contiguous(), sin = table.sin.contiguous();
  float* row = out.data_ptr<float>();
  const int64_t length = in.size(2), width = in.size(3);
  for (int64_t b = 0; b < in.size(0); ++b) {
    for (int64_t head = 0; head < in.size(1); ++head, row += length * width) {
      RotateRows(in.data_ptr<float>() + b * in.stride(0) + head * in.stride(1),
                 in.stride(2), cos.data_ptr<float>(), sin.data_ptr<float>(),
                 length, cos.size(-1), width, row);
    }
  }
  return out.to(x.scalar_type());
}

}  // namespace

RopeTable MakeRopeTable(const RopeConfig& rope, int64_t dim, int64_t longest,
                        int64_t length, at::Device device) {
  const at::Tensor positions = at::arange(length, at::kFloat).unsqueeze(1);
  const at::Tensor angles =
      positions * Frequencies(rope, dim, longest, length).unsqueeze(0);
  const double factor = AttentionFactor(rope);
  return {.cos = (at::cos(angles) * factor).to(device),
          .sin = (at::sin(angles) * factor).to(device)};
}

at::Tensor ApplyRope(const at::Tensor& x, const RopeTable& table) {
  if (x.dim() == 4 && RunsOnKernels(x)) return RotateHeads(x, table);
  const int64_t half = table.cos.size(-1), rest = x.size(-1) - 2 * half;
  const at::Tensor first = x.narrow(-1, 0, half).to(at::kFloat);
  const at::Tensor second = x.narrow(-1, half, half).to(at::kFloat);
  std::vector<at::Tensor> parts = {first * table.cos - second * table.sin,
                                   second * table.cos + first * table.sin};
  for (at::Tensor& part : parts) part = part.to(x.scalar_type());
  if (rest > 0) parts.push_back(x.narrow(-1, 2 * half, rest));
  return at::cat(parts, -1);
}

RopeTable RowsOf(const RopeTable& table, int64_t first, int64_t count) {
  return {.cos = table.cos.narrow(0, first, count),
          .sin = table.sin.narrow(0, first, count)};
}

}  // namespace cairn
