#include "core/update/effects.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
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

// One whose change is the same whatever the base's elements are.
class AdditiveEffect : public TensorEffect {
 public:
  absl::Status Apply(int64_t first, absl::Span<float> values) const final {
    return AddChange(first, values, 1.0f, values);
  }
  bool is_additive() const final { return true; }
};

class LowRankEffect : public AdditiveEffect {
 public:
  explicit LowRankEffect(std::vector<LowRankBlock> blocks)
      : blocks_(std::move(blocks)),
        block_elements_(blocks_[0].rows * blocks_[0].columns) {}

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
  const std::vector<LowRankBlock>& blocks() const { return blocks_; }

 private:
  const std::vector<LowRankBlock> blocks_;
  const int64_t block_elements_;
};

class AddedEffect : public AdditiveEffect {
 public:
  explicit AddedEffect(std::vector<float> added) : added_(std::move(added)) {}

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
    const int64_t left = std::max<int64_t>(0, entry_.elements() - first);
    values =
        values.subspan(0, std::min(values.size(), static_cast<size_t>(left)));
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

// A few places of a tensor, in the order of their positions.
class ScatteredEffect : public AdditiveEffect {
 public:
  explicit ScatteredEffect(std::vector<std::pair<int64_t, float>> places)
      : places_(std::move(places)) {}

  absl::Status AddChange(int64_t first, absl::Span<const float>, float weight,
                         absl::Span<float> sum) const override {
    const int64_t last = first + static_cast<int64_t>(sum.size());
    auto place = std::lower_bound(
        places_.begin(), places_.end(), first,
        [](const auto& a, int64_t position) { return a.first < position; });
    for (; place != places_.end() && place->first < last; ++place) {
      sum[static_cast<size_t>(place->first - first)] += weight * place->second;
    }
    return absl::OkStatus();
  }
  int64_t memory_bytes() const override {
    return static_cast<int64_t>(places_.size() * sizeof(places_[0]));
  }

 private:
  const std::vector<std::pair<int64_t, float>> places_;
};

class ReplacementEffect : public GeneralEffect {
 public:
  ReplacementEffect(const Update& update, std::string tensor,
                    const BaseValues& base)
      : update_(update), tensor_(std::move(tensor)), base_(base) {}

  absl::Status Apply(int64_t first, absl::Span<float> values) const override {
    std::vector<char> bytes(values.size() *
                            static_cast<size_t>(DTypeBits(base_.dtype) / 8));
    CAIRN_RETURN_IF_ERROR(
        update_.ReadTuned(tensor_, *base_.bytes, first, absl::MakeSpan(bytes)));
    ToFloats(base_.dtype, bytes, values);
    return absl::OkStatus();
  }
  int64_t memory_bytes() const override { return 0; }

 private:
  const Update& update_;
  const std::string tensor_;
  const BaseValues base_;
};

class DifferenceEffect : public AdditiveEffect {
 public:
  DifferenceEffect(std::unique_ptr<const ChangeReader> change, int64_t bytes)
      : change_(std::move(change)), memory_bytes_(bytes) {}

  absl::Status AddChange(int64_t first, absl::Span<const float>, float weight,
                         absl::Span<float> sum) const override {
    std::vector<float> tau(sum.size());
    CAIRN_RETURN_IF_ERROR(change_->Read(first, absl::MakeSpan(tau)));
    AddScaled(weight, tau, sum);
    return absl::OkStatus();
  }
  int64_t memory_bytes() const override { return memory_bytes_; }

 private:
  const std::unique_ptr<const ChangeReader> change_;
  const int64_t memory_bytes_;
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

class SummedEffect : public AdditiveEffect {
 public:
  explicit SummedEffect(std::vector<WeightedEffect> parts)
      : parts_(std::move(parts)) {}

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

class DeferredEffect : public TensorEffect {
 public:
  DeferredEffect(MakeEffect make, int64_t bytes)
      : make_(std::move(make)), memory_bytes_(bytes) {}

  absl::StatusOr<Effect> Load() const override { return make_(); }
  absl::Status Apply(int64_t first, absl::Span<float> values) const override {
    CAIRN_ASSIGN_OR_RETURN(const Effect effect, make_());
    return effect->Apply(first, values);
  }
  absl::Status AddChange(int64_t first, absl::Span<const float> base,
                         float weight, absl::Span<float> sum) const override {
    CAIRN_ASSIGN_OR_RETURN(const Effect effect, make_());
    return effect->AddChange(first, base, weight, sum);
  }
  int64_t memory_bytes() const override { return memory_bytes_; }

 private:
  const MakeEffect make_;
  const int64_t memory_bytes_;
};

// One product of the factors of several, side by side: weights and scales go
// into the left ones, and an element is one sum over all ranks.
LowRankBlock SideBySide(const std::vector<const LowRankBlock*>& blocks,
                        const std::vector<float>& weights) {
  LowRankBlock out{.rows = blocks[0]->rows, .columns = blocks[0]->columns};
  for (const LowRankBlock* block : blocks) out.rank += block->rank;
  out.left.resize(static_cast<size_t>(out.rows * out.rank));
  out.right.reserve(static_cast<size_t>(out.rank * out.columns));
  int64_t first = 0;
  for (size_t i = 0; i < blocks.size(); ++i) {
    const LowRankBlock& block = *blocks[i];
    const float factor = weights[i] * block.scale;
    for (int64_t row = 0; row < out.rows; ++row) {
      const float* from = block.left.data() + row * block.rank;
      float* to = out.left.data() + row * out.rank + first;
      for (int64_t k = 0; k < block.rank; ++k) to[k] = factor * from[k];
    }
    out.right.insert(out.right.end(), block.right.begin(), block.right.end());
    first += block.rank;
  }
  return out;
}

// The sum as one low-rank effect; null where a part is of another kind or cut
// into other blocks.
Effect JoinLowRank(const std::vector<WeightedEffect>& parts) {
  std::vector<const LowRankEffect*> effects;
  std::vector<float> weights;
  for (const WeightedEffect& part : parts) {
    const auto* effect = dynamic_cast<const LowRankEffect*>(part.effect.get());
    if (effect == nullptr) return nullptr;
    effects.push_back(effect);
    weights.push_back(part.weight);
  }
  if (effects.empty()) return nullptr;
  const std::vector<LowRankBlock>& shape = effects[0]->blocks();
  std::vector<LowRankBlock> joined;
  for (size_t b = 0; b < shape.size(); ++b) {
    std::vector<const LowRankBlock*> blocks;
    for (const LowRankEffect* effect : effects) {
      if (effect->blocks().size() != shape.size()) return nullptr;
      blocks.push_back(&effect->blocks()[b]);
      if (blocks.back()->rows != shape[b].rows ||
          blocks.back()->columns != shape[b].columns) {
        return nullptr;
      }
    }
    joined.push_back(SideBySide(blocks, weights));
  }
  return std::make_shared<LowRankEffect>(std::move(joined));
}

std::vector<float> Transposed(const std::vector<float>& matrix, int64_t rows,
                              int64_t columns) {
  std::vector<float> out(matrix.size());
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      out[static_cast<size_t>(c * rows + r)] =
          matrix[static_cast<size_t>(r * columns + c)];
    }
  }
  return out;
}

}  // namespace

absl::Status BaseValues::Read(int64_t first, absl::Span<float> out) const {
  constexpr size_t kTile = 1 << 14;
  if (bytes == nullptr) {
    std::fill(out.begin(), out.end(), 0.0f);
    return absl::OkStatus();
  }
  const auto width = static_cast<size_t>(DTypeBits(dtype) / 8);
  std::vector<char> raw(std::min(kTile, out.size()) * width);
  while (!out.empty()) {
    const size_t count = std::min(kTile, out.size());
    const absl::Span<char> part(raw.data(), count * width);
    CAIRN_RETURN_IF_ERROR(
        bytes->ReadAt(first * static_cast<int64_t>(width), part));
    ToFloats(dtype, part, out.subspan(0, count));
    first += static_cast<int64_t>(count);
    out.remove_prefix(count);
  }
  return absl::OkStatus();
}

absl::StatusOr<Effect> Loaded(const Effect& effect) {
  CAIRN_ASSIGN_OR_RETURN(Effect loaded, effect->Load());
  return loaded == nullptr ? effect : loaded;
}

LowRankBlock Orient(LoraFactors factors) {
  LowRankBlock out{.rows = factors.out,
                   .rank = factors.rank,
                   .columns = factors.in,
                   .scale = static_cast<float>(factors.scale)};
  if (!factors.transposed) {
    out.left = std::move(factors.b);
    out.right = std::move(factors.a);
    return out;
  }
  std::swap(out.rows, out.columns);
  out.left = Transposed(factors.a, factors.rank, factors.in);
  out.right = Transposed(factors.b, factors.out, factors.rank);
  return out;
}

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

Effect MakeScatteredEffect(std::vector<int64_t> positions,
                           std::vector<float> added) {
  std::vector<std::pair<int64_t, float>> places;
  places.reserve(positions.size());
  for (size_t i = 0; i < positions.size(); ++i) {
    places.emplace_back(positions[i], added[i]);
  }
  std::stable_sort(
      places.begin(), places.end(),
      [](const auto& a, const auto& b) { return a.first < b.first; });
  return std::make_shared<ScatteredEffect>(std::move(places));
}

Effect MakeReplacementEffect(const Update& update, std::string tensor,
                             const BaseValues& base) {
  return std::make_shared<ReplacementEffect>(update, std::move(tensor), base);
}

Effect MakeDifferenceEffect(std::unique_ptr<const ChangeReader> change,
                            int64_t bytes) {
  return std::make_shared<DifferenceEffect>(std::move(change), bytes);
}

Effect MakeChainedEffect(Effect first, Effect second) {
  return std::make_shared<ChainedEffect>(std::move(first), std::move(second));
}

Effect MakeSummedEffect(std::vector<WeightedEffect> parts) {
  if (Effect joined = JoinLowRank(parts)) return joined;
  return std::make_shared<SummedEffect>(std::move(parts));
}

Effect MakeDeferredEffect(MakeEffect make, int64_t bytes) {
  return std::make_shared<DeferredEffect>(std::move(make), bytes);
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
    if (squares[i] <= 0) {
      return ReasonedError(
          absl::StatusCode::kInvalidArgument, "NON_FINITE",
          absl::StrCat("vector ", i,
                       " of the changed weight is zero, so DoRA "
                       "cannot bring it to a length"));
    }
    factors[i] = static_cast<float>(static_cast<double>(magnitudes[i]) /
                                    std::sqrt(squares[i]));
  }
  return MakeChainedEffect(std::move(change),
                           MakeScaledEffect(std::move(factors), inner));
}

absl::Status ReadChange(const TensorEffect& effect, const BaseValues& values,
                        int64_t first, std::vector<float>& base,
                        absl::Span<float> change) {
  base.resize(change.size());
  if (!effect.is_additive()) {
    CAIRN_RETURN_IF_ERROR(values.Read(first, absl::MakeSpan(base)));
  }
  std::fill(change.begin(), change.end(), 0.0f);
  return effect.AddChange(first, base, 1.0f, change);
}

absl::StatusOr<double> ChangeNorm(const TensorEffect& effect,
                                  const BaseValues& values, int64_t elements) {
  constexpr int64_t kTile = 1 << 16;
  std::vector<float> base, change;
  double total = 0;
  for (int64_t first = 0; first < elements; first += kTile) {
    change.resize(static_cast<size_t>(std::min(kTile, elements - first)));
    CAIRN_RETURN_IF_ERROR(
        ReadChange(effect, values, first, base, absl::MakeSpan(change)));
    for (const float value : change) {
      total += static_cast<double>(value) * value;
    }
  }
  return std::sqrt(total);
}

}  // namespace cairn
