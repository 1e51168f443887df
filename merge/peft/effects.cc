#include "merge/peft/effects.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/status_macros.h"
#include "core/tensor/dtype.h"
#include "core/tensor/float_kernels.h"

namespace cairn {
namespace {

constexpr size_t kStrip = 4096;

int64_t BytesOf(const std::vector<float>& values) {
  return static_cast<int64_t>(values.size() * sizeof(float));
}

// An effect whose change has to be found by applying it.
class GeneralEffect : public TensorEffect {
 public:
  absl::Status AddChange(int64_t first, absl::Span<const float> base,
                         float weight, absl::Span<float> sum) const override {
    std::vector<float> tuned(base.begin(), base.end());
    CAIRN_RETURN_IF_ERROR(Apply(first, absl::MakeSpan(tuned)));
    for (size_t i = 0; i < tuned.size(); ++i) {
      sum[i] += weight * (tuned[i] - base[i]);
    }
    return absl::OkStatus();
  }
};

class LowRankEffect : public TensorEffect {
 public:
  explicit LowRankEffect(std::vector<LowRankBlock> blocks)
      : blocks_(std::move(blocks)),
        block_elements_(blocks_[0].rows * blocks_[0].columns) {}

  absl::Status Apply(int64_t first, absl::Span<float> values) const override {
    return AddChange(first, values, 1.0f, values);
  }

  absl::Status AddChange(int64_t first, absl::Span<const float>, float weight,
                         absl::Span<float> sum) const override {
    while (!sum.empty()) {
      const LowRankBlock& block =
          blocks_[static_cast<size_t>(first / block_elements_)];
      const int64_t within = first % block_elements_;
      const size_t count =
          std::min(sum.size(), static_cast<size_t>(block_elements_ - within));
      AddLowRank({.left = block.left.data(),
                  .right = block.right.data(),
                  .rank = block.rank,
                  .columns = block.columns,
                  .scale = block.scale},
                 weight, within, sum.subspan(0, count));
      first += static_cast<int64_t>(count);
      sum.remove_prefix(count);
    }
    return absl::OkStatus();
  }

  int64_t memory_bytes() const override {
    int64_t bytes = 0;
    for (const LowRankBlock& block : blocks_) {
      bytes += BytesOf(block.left) + BytesOf(block.right);
    }
    return bytes;
  }

 private:
  const std::vector<LowRankBlock> blocks_;
  const int64_t block_elements_;
};

class AddedEffect : public TensorEffect {
 public:
  explicit AddedEffect(std::vector<float> added) : added_(std::move(added)) {}

  absl::Status Apply(int64_t first, absl::Span<float> values) const override {
    return AddChange(first, values, 1.0f, values);
  }
  absl::Status AddChange(int64_t first, absl::Span<const float>, float weight,
                         absl::Span<float> sum) const override {
    AddScaled(weight,
              absl::MakeConstSpan(added_).subspan(static_cast<size_t>(first),
                                                  sum.size()),
              sum);
    return absl::OkStatus();
  }
  int64_t memory_bytes() const override { return BytesOf(added_); }

 private:
  const std::vector<float> added_;
};

class ScaledEffect : public GeneralEffect {
 public:
  ScaledEffect(std::vector<float> factors, int64_t inner)
      : factors_(std::move(factors)), inner_(inner) {}

  absl::Status Apply(int64_t first, absl::Span<float> values) const override {
    const auto count = static_cast<int64_t>(factors_.size());
    for (float& value : values) {
      value *= factors_[static_cast<size_t>(first++ / inner_ % count)];
    }
    return absl::OkStatus();
  }
  int64_t memory_bytes() const override { return BytesOf(factors_); }

 private:
  const std::vector<float> factors_;
  const int64_t inner_;
};

class ReplacedEffect : public GeneralEffect {
 public:
  ReplacedEffect(SharedSource file, TensorEntry entry)
      : file_(std::move(file)), entry_(std::move(entry)) {}

  absl::Status Apply(int64_t first, absl::Span<float> values) const override {
    const auto width = static_cast<size_t>(DTypeBits(entry_.dtype) / 8);
    char bytes[kStrip * 4];
    while (!values.empty()) {
      const size_t count = std::min(kStrip, values.size());
      const absl::Span<char> raw(bytes, count * width);
      CAIRN_RETURN_IF_ERROR(file_->ReadAt(
          entry_.begin + first * static_cast<int64_t>(width), raw));
      ToFloats(entry_.dtype, raw, values.subspan(0, count));
      first += static_cast<int64_t>(count);
      values.remove_prefix(count);
    }
    return absl::OkStatus();
  }
  int64_t memory_bytes() const override { return 0; }

 private:
  const SharedSource file_;
  const TensorEntry entry_;
};

class RowsEffect : public GeneralEffect {
 public:
  RowsEffect(std::vector<int64_t> rows, std::vector<float> values,
             int64_t columns)
      : rows_(std::move(rows)), values_(std::move(values)), columns_(columns) {}

  absl::Status Apply(int64_t first, absl::Span<float> values) const override {
    const int64_t last = first + static_cast<int64_t>(values.size());
    for (size_t i = 0; i < rows_.size(); ++i) {
      const int64_t begin = std::max(first, rows_[i] * columns_);
      const int64_t end = std::min(last, (rows_[i] + 1) * columns_);
      for (int64_t at = begin; at < end; ++at) {
        values[static_cast<size_t>(at - first)] =
            values_[i * static_cast<size_t>(columns_) +
                    static_cast<size_t>(at - rows_[i] * columns_)];
      }
    }
    return absl::OkStatus();
  }
  int64_t memory_bytes() const override { return BytesOf(values_); }

 private:
  const std::vector<int64_t> rows_;
  const std::vector<float> values_;
  const int64_t columns_;
};

class ChainedEffect : public GeneralEffect {
 public:
  ChainedEffect(Effect first, Effect second)
      : first_(std::move(first)), second_(std::move(second)) {}

  absl::Status Apply(int64_t first, absl::Span<float> values) const override {
    CAIRN_RETURN_IF_ERROR(first_->Apply(first, values));
    return second_->Apply(first, values);
  }
  int64_t memory_bytes() const override {
    return first_->memory_bytes() + second_->memory_bytes();
  }

 private:
  const Effect first_, second_;
};

class SummedEffect : public TensorEffect {
 public:
  explicit SummedEffect(std::vector<WeightedEffect> parts)
      : parts_(std::move(parts)) {}

  absl::Status Apply(int64_t first, absl::Span<float> values) const override {
    return AddChange(first, values, 1.0f, values);
  }
  absl::Status AddChange(int64_t first, absl::Span<const float> base,
                         float weight, absl::Span<float> sum) const override {
    for (const WeightedEffect& part : parts_) {
      CAIRN_RETURN_IF_ERROR(
          part.effect->AddChange(first, base, weight * part.weight, sum));
    }
    return absl::OkStatus();
  }
  int64_t memory_bytes() const override {
    int64_t bytes = 0;
    for (const auto& part : parts_) bytes += part.effect->memory_bytes();
    return bytes;
  }

 private:
  const std::vector<WeightedEffect> parts_;
};

}  // namespace

Effect MakeLowRankEffect(std::vector<LowRankBlock> blocks) {
  return std::make_shared<LowRankEffect>(std::move(blocks));
}

Effect MakeAddedEffect(std::vector<float> added) {
  return std::make_shared<AddedEffect>(std::move(added));
}

Effect MakeScaledEffect(std::vector<float> factors, int64_t inner) {
  return std::make_shared<ScaledEffect>(std::move(factors), inner);
}

Effect MakeReplacedEffect(SharedSource file, TensorEntry entry) {
  return std::make_shared<ReplacedEffect>(std::move(file), std::move(entry));
}

Effect MakeRowsEffect(std::vector<int64_t> rows, std::vector<float> values,
                      int64_t columns) {
  return std::make_shared<RowsEffect>(std::move(rows), std::move(values),
                                      columns);
}

Effect MakeChainedEffect(Effect first, Effect second) {
  return std::make_shared<ChainedEffect>(std::move(first), std::move(second));
}

Effect MakeSummedEffect(std::vector<WeightedEffect> parts) {
  return std::make_shared<SummedEffect>(std::move(parts));
}

absl::StatusOr<Effect> MakeDoraEffect(Effect change,
                                      const std::vector<float>& magnitudes,
                                      int64_t inner, int64_t elements,
                                      const ReadValues& read) {
  std::vector<double> squares(magnitudes.size(), 0.0);
  std::vector<float> values(kStrip);
  const auto count = static_cast<int64_t>(magnitudes.size());
  for (int64_t first = 0; first < elements;) {
    const auto n = static_cast<size_t>(
        std::min<int64_t>(static_cast<int64_t>(kStrip), elements - first));
    const absl::Span<float> part(values.data(), n);
    CAIRN_RETURN_IF_ERROR(read(first, part));
    CAIRN_RETURN_IF_ERROR(change->Apply(first, part));
    for (size_t i = 0; i < n; ++i, ++first) {
      const auto value = static_cast<double>(part[i]);
      squares[static_cast<size_t>(first / inner % count)] += value * value;
    }
  }
  std::vector<float> factors(magnitudes.size());
  for (size_t i = 0; i < factors.size(); ++i) {
    factors[i] = static_cast<float>(static_cast<double>(magnitudes[i]) /
                                    std::sqrt(squares[i]));
  }
  return MakeChainedEffect(std::move(change),
                           MakeScaledEffect(std::move(factors), inner));
}

}  // namespace cairn
