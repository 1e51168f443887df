#include "core/update/peft_update.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/tensor/tensor_norm.h"
#include "core/update/adapter_config.h"
#include "core/update/adapter_contents.h"
#include "core/update/effects.h"
#include "core/update/low_rank_norm.h"

namespace cairn {
namespace {

constexpr int64_t kConfigBytesMax = 1 << 20;
constexpr int64_t kPositionsAtATime = 1 << 16;

v1::Encoding::Kind EncodingOf(AdapterKind kind) {
  switch (kind) {
    case AdapterKind::kLora:
      return v1::Encoding::LORA;
    case AdapterKind::kIa3:
      return v1::Encoding::IA3;
    case AdapterKind::kShira:
      return v1::Encoding::SHIRA;
  }
  return v1::Encoding::ENCODING_UNSPECIFIED;
}

int64_t FloatBytes(int64_t elements) {
  return elements * static_cast<int64_t>(sizeof(float));
}

int64_t Elements(const std::vector<int64_t>& shape) {
  int64_t product = 1;
  for (int64_t d : shape) product *= d;
  return product;
}

// Reads what steps name from an adapter's file.
class StepReader {
 public:
  explicit StepReader(SharedSource weights) : weights_(std::move(weights)) {}

  // Elements of a tensor from `first` on.
  absl::Status Read(const TensorEntry& entry, int64_t first,
                    absl::Span<float> out) const {
    const auto slice =
        MakeSliceSource(weights_, entry.begin, entry.end - entry.begin);
    return BaseValues{.dtype = entry.dtype, .bytes = slice.get()}.Read(first,
                                                                       out);
  }

  absl::StatusOr<std::vector<float>> ReadAll(const TensorEntry& entry) const {
    std::vector<float> values(static_cast<size_t>(entry.elements()));
    CAIRN_RETURN_IF_ERROR(Read(entry, 0, absl::MakeSpan(values)));
    return values;
  }

  absl::StatusOr<LoraFactors> ReadProduct(const LowRankStep& step) const {
    LoraFactors out{.rank = step.rank,
                    .in = step.in,
                    .out = step.out,
                    .a = {},
                    .b = {},
                    .scale = step.scale,
                    .transposed = step.is_transposed};
    CAIRN_ASSIGN_OR_RETURN(out.a, ReadAll(step.a));
    CAIRN_ASSIGN_OR_RETURN(out.b, ReadAll(step.b));
    return out;
  }

  // The factors of the experts of a step, one after the other.
  absl::StatusOr<std::vector<LoraFactors>> ReadExperts(
      const ExpertsStep& step) const {
    const ExpertPart& part = step.part;
    std::vector<float> b(
        static_cast<size_t>(part.out * step.rank * step.experts));
    CAIRN_RETURN_IF_ERROR(Read(step.b,
                               part.first_out * step.rank * step.experts,
                               absl::MakeSpan(b)));
    std::vector<LoraFactors> out;
    for (int64_t e = part.expert; e < part.expert + part.experts; ++e) {
      LoraFactors& factors = out.emplace_back();
      factors.rank = step.rank;
      factors.in = step.in;
      factors.out = part.out;
      factors.scale = step.scale;
      factors.transposed = !part.is_out_first;
      factors.a.resize(static_cast<size_t>(step.rank * step.in));
      CAIRN_RETURN_IF_ERROR(
          Read(step.a, e * step.rank * step.in, absl::MakeSpan(factors.a)));
      factors.b.reserve(static_cast<size_t>(part.out * step.rank));
      for (int64_t i = 0; i < part.out * step.rank; ++i) {
        factors.b.push_back(b[static_cast<size_t>(i * step.experts + e)]);
      }
    }
    return out;
  }

  // Numbers that stand for positions, stored as I32 or as floats.
  absl::Status ReadPositions(const TensorEntry& entry, int64_t first,
                             absl::Span<int64_t> out) const {
    if (entry.dtype == DType::kI32) {
      std::vector<char> raw(out.size() * 4);
      CAIRN_RETURN_IF_ERROR(
          weights_->ReadAt(entry.begin + first * 4, absl::MakeSpan(raw)));
      for (size_t i = 0; i < out.size(); ++i) {
        int32_t value = 0;
        std::memcpy(&value, &raw[i * 4], 4);
        out[i] = value;
      }
      return absl::OkStatus();
    }
    std::vector<float> values(out.size());
    CAIRN_RETURN_IF_ERROR(Read(entry, first, absl::MakeSpan(values)));
    for (size_t i = 0; i < out.size(); ++i) {
      const bool is_whole = values[i] >= 0 && values[i] < 1e9f &&
                            values[i] == std::floor(values[i]);
      out[i] = is_whole ? static_cast<int64_t>(values[i]) : -1;
    }
    return absl::OkStatus();
  }

  // Calls `take(place in the list, row, column)` for every position of a step.
  template <typename Take>
  absl::Status ForPositions(const ScatterStep& step, Take take) const {
    const int64_t count = step.values.elements();
    std::vector<int64_t> rows, columns;
    for (int64_t first = 0; first < count; first += kPositionsAtATime) {
      const auto n =
          static_cast<size_t>(std::min(kPositionsAtATime, count - first));
      rows.resize(n);
      columns.resize(n);
      CAIRN_RETURN_IF_ERROR(
          ReadPositions(step.indices, first, absl::MakeSpan(rows)));
      CAIRN_RETURN_IF_ERROR(
          ReadPositions(step.indices, count + first, absl::MakeSpan(columns)));
      for (size_t i = 0; i < n; ++i) {
        CAIRN_RETURN_IF_ERROR(
            take(first + static_cast<int64_t>(i), rows[i], columns[i]));
      }
    }
    return absl::OkStatus();
  }

 private:
  const SharedSource weights_;
};

absl::Status CheckPositions(const StepReader& reader, const ScatterStep& step) {
  return reader.ForPositions(
      step, [&](int64_t at, int64_t row, int64_t column) -> absl::Status {
        if (row >= 0 && row < step.rows && column >= 0 &&
            column < step.columns) {
          return absl::OkStatus();
        }
        return RefuseTensor(
            "MALFORMED_FILE", step.indices.name,
            absl::StrCat("has a position ", at, " outside of a matrix of ",
                         step.rows, " rows and ", step.columns, " columns"));
      });
}

// Turns the steps of one tensor into its effect.
class EffectMaker {
 public:
  EffectMaker(SharedSource weights, const AdaptedTensor& tensor,
              const BaseValues& base)
      : weights_(std::move(weights)),
        reader_(weights_),
        tensor_(tensor),
        base_(base) {}

  absl::StatusOr<Effect> Make() {
    for (const AdapterStep& step : tensor_.steps) {
      CAIRN_ASSIGN_OR_RETURN(
          Effect next,
          std::visit([&](const auto& one) { return MakeStep(one); }, step));
      whole_ = whole_ == nullptr
                   ? std::move(next)
                   : MakeChainedEffect(std::move(whole_), std::move(next));
    }
    return whole_;
  }

 private:
  absl::StatusOr<Effect> MakeStep(const LowRankStep& step) {
    CAIRN_ASSIGN_OR_RETURN(LoraFactors factors, reader_.ReadProduct(step));
    std::vector<LowRankBlock> blocks;
    blocks.push_back(Orient(std::move(factors)));
    Effect change = MakeLowRankEffect(std::move(blocks));
    if (!step.magnitude.has_value()) return change;
    CAIRN_ASSIGN_OR_RETURN(const std::vector<float> magnitudes,
                           reader_.ReadAll(*step.magnitude));
    const ReadValues read = [&](int64_t first,
                                absl::Span<float> out) -> absl::Status {
      CAIRN_RETURN_IF_ERROR(base_.Read(first, out));
      return whole_ == nullptr ? absl::OkStatus() : whole_->Apply(first, out);
    };
    return MakeDoraEffect(std::move(change), magnitudes, step.inner,
                          Elements(tensor_.shape), read);
  }

  absl::StatusOr<Effect> MakeStep(const ExpertsStep& step) {
    CAIRN_ASSIGN_OR_RETURN(std::vector<LoraFactors> experts,
                           reader_.ReadExperts(step));
    std::vector<LowRankBlock> blocks;
    for (LoraFactors& factors : experts) {
      blocks.push_back(Orient(std::move(factors)));
    }
    return MakeLowRankEffect(std::move(blocks));
  }

  absl::StatusOr<Effect> MakeStep(const AddStep& step) {
    CAIRN_ASSIGN_OR_RETURN(std::vector<float> added,
                           reader_.ReadAll(step.added));
    for (float& value : added) {
      value = static_cast<float>(static_cast<double>(value) * step.scale);
    }
    return MakeAddedEffect(std::move(added));
  }

  absl::StatusOr<Effect> MakeStep(const ScaleStep& step) {
    CAIRN_ASSIGN_OR_RETURN(std::vector<float> factors,
                           reader_.ReadAll(step.factors));
    return MakeScaledEffect(std::move(factors), step.inner);
  }

  absl::StatusOr<Effect> MakeStep(const ReplaceStep& step) {
    return MakeReplacedEffect(weights_, step.values);
  }

  absl::StatusOr<Effect> MakeStep(const RowsStep& step) {
    CAIRN_ASSIGN_OR_RETURN(std::vector<float> values,
                           reader_.ReadAll(step.values));
    return MakeRowsEffect(step.rows, std::move(values), step.columns);
  }

  absl::StatusOr<Effect> MakeStep(const ScatterStep& step) {
    CAIRN_ASSIGN_OR_RETURN(std::vector<float> added,
                           reader_.ReadAll(step.values));
    std::vector<int64_t> positions(added.size());
    CAIRN_RETURN_IF_ERROR(reader_.ForPositions(
        step, [&](int64_t at, int64_t row, int64_t column) {
          positions[static_cast<size_t>(at)] = row * step.columns + column;
          return absl::OkStatus();
        }));
    return MakeScatteredEffect(std::move(positions), std::move(added));
  }

  const SharedSource weights_;
  const StepReader reader_;
  const AdaptedTensor& tensor_;
  const BaseValues base_;
  Effect whole_;  // of the steps so far
};

struct StepBytes {
  int64_t operator()(const LowRankStep& step) const {
    const int64_t magnitudes =
        step.magnitude.has_value() ? step.magnitude->elements() : 0;
    return FloatBytes(step.a.elements() + step.b.elements() + magnitudes);
  }
  int64_t operator()(const ExpertsStep& step) const {
    // All of B of the part is read for a few experts of it, too.
    return FloatBytes(step.part.experts * step.rank * step.in +
                      step.part.out * step.rank *
                          (step.experts + step.part.experts));
  }
  int64_t operator()(const AddStep& step) const {
    return FloatBytes(step.added.elements());
  }
  int64_t operator()(const ScaleStep& step) const {
    return FloatBytes(step.factors.elements());
  }
  int64_t operator()(const ReplaceStep&) const { return 0; }
  int64_t operator()(const RowsStep& step) const {
    return FloatBytes(step.values.elements());
  }
  int64_t operator()(const ScatterStep& step) const {
    return 16 * step.values.elements();
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<PeftUpdate>> PeftUpdate::Open(
    const ByteSource& config_file, SharedSource weights, const BaseModel* base,
    Vocabulary vocabulary) {
  const auto text = cairn::ReadAll(config_file, kConfigBytesMax);
  if (!text.ok()) return Annotate(text.status(), kAdapterConfigFile);
  CAIRN_ASSIGN_OR_RETURN(const AdapterConfig config,
                         AdapterConfig::Parse(*text, kAdapterConfigFile));
  CAIRN_ASSIGN_OR_RETURN(
      const SafetensorsHeader header,
      SafetensorsHeader::Read(*weights, kAdapterWeightsFile));
  CAIRN_ASSIGN_OR_RETURN(AdapterPlan plan,
                         ReadAdapter({.weights = weights.get(),
                                      .header = &header,
                                      .config = &config},
                                     base, vocabulary));
  const StepReader reader(weights);
  for (const auto& [name, tensor] : plan.tensors) {
    for (const AdapterStep& step : tensor.steps) {
      const auto* scatter = std::get_if<ScatterStep>(&step);
      if (scatter == nullptr) continue;
      CAIRN_RETURN_IF_ERROR(CheckPositions(reader, *scatter));
    }
  }
  return std::unique_ptr<PeftUpdate>(
      new PeftUpdate(EncodingOf(config.kind), std::move(weights),
                     header.tensors(), std::move(plan)));
}

PeftUpdate::PeftUpdate(v1::Encoding::Kind encoding, SharedSource weights,
                       std::vector<TensorEntry> entries, AdapterPlan plan)
    : encoding_(encoding),
      weights_(std::move(weights)),
      entries_(std::move(entries)),
      plan_(std::move(plan)) {
  for (const auto& [name, tensor] : plan_.tensors) {
    touched_.push_back(
        {.name = name, .shape = tensor.shape, .dtype = std::nullopt});
  }
}

absl::Status PeftUpdate::CheckFinite() const {
  for (const TensorEntry& entry : entries_) {
    if (!IsNumeric(entry.dtype)) continue;
    const auto bytes =
        MakeSliceSource(weights_, entry.begin, entry.end - entry.begin);
    CAIRN_ASSIGN_OR_RETURN(const bool is_finite, IsFinite(entry.dtype, *bytes));
    if (!is_finite) {
      return RefuseTensor("NON_FINITE", entry.name,
                          "holds a NaN or an infinity");
    }
  }
  return absl::OkStatus();
}

const AdapterStep* PeftUpdate::OneProduct(absl::string_view tensor) const {
  const auto found = plan_.tensors.find(std::string(tensor));
  if (found == plan_.tensors.end() || found->second.steps.size() != 1) {
    return nullptr;
  }
  const AdapterStep& step = found->second.steps[0];
  const auto* product = std::get_if<LowRankStep>(&step);
  const auto* experts = std::get_if<ExpertsStep>(&step);
  const bool is_one =
      (product != nullptr && !product->magnitude.has_value()) ||
      (experts != nullptr && experts->part.experts == 1);
  return is_one ? &step : nullptr;
}

absl::StatusOr<LoraFactors> PeftUpdate::ReadFactors(
    absl::string_view tensor) const {
  const AdapterStep* step = OneProduct(tensor);
  if (step == nullptr) return Update::ReadFactors(tensor);
  const StepReader reader(weights_);
  if (const auto* product = std::get_if<LowRankStep>(step)) {
    return reader.ReadProduct(*product);
  }
  CAIRN_ASSIGN_OR_RETURN(std::vector<LoraFactors> experts,
                         reader.ReadExperts(std::get<ExpertsStep>(*step)));
  return std::move(experts[0]);
}

int64_t PeftUpdate::FactorBytes(absl::string_view tensor) const {
  const AdapterStep* step = OneProduct(tensor);
  return step == nullptr ? 0 : std::visit(StepBytes(), *step);
}

absl::StatusOr<Effect> PeftUpdate::OpenEffect(absl::string_view tensor,
                                              const BaseValues& base) const {
  const auto found = plan_.tensors.find(std::string(tensor));
  if (found == plan_.tensors.end()) {
    return absl::NotFoundError(
        absl::StrCat("the update does not touch tensor ", JsonQuote(tensor)));
  }
  auto effect = EffectMaker(weights_, found->second, base).Make();
  if (effect.ok()) return effect;
  return WithDetails(Annotate(effect.status(),
                              absl::StrCat("tensor ", JsonQuote(tensor))),
                     {{"tensor", std::string(tensor)}});
}

int64_t PeftUpdate::EffectBytes(absl::string_view tensor) const {
  const auto found = plan_.tensors.find(std::string(tensor));
  if (found == plan_.tensors.end()) return 0;
  int64_t bytes = 0;
  for (const AdapterStep& step : found->second.steps) {
    bytes += std::visit(StepBytes(), step);
  }
  return bytes;
}

absl::StatusOr<double> PeftUpdate::DeltaNorm(absl::string_view tensor,
                                             const ByteSource&) const {
  const AdapterStep* step = OneProduct(tensor);
  const auto* product =
      step == nullptr ? nullptr : std::get_if<LowRankStep>(step);
  if (product != nullptr) {
    const StepReader reader(weights_);
    const auto read = [&](const TensorEntry& entry) {
      return [&](int64_t first, absl::Span<float> out) {
        return reader.Read(entry, first, out);
      };
    };
    return LowRankNorm({.rank = product->rank,
                        .in = product->in,
                        .out = product->out,
                        .scale = product->scale,
                        .read_a = read(product->a),
                        .read_b = read(product->b)});
  }
  if (step != nullptr) {
    CAIRN_ASSIGN_OR_RETURN(const LoraFactors factors, ReadFactors(tensor));
    const auto read = [](const std::vector<float>& matrix) {
      return [&](int64_t first, absl::Span<float> out) {
        std::copy_n(matrix.begin() + first, out.size(), out.begin());
        return absl::OkStatus();
      };
    };
    return LowRankNorm({.rank = factors.rank,
                        .in = factors.in,
                        .out = factors.out,
                        .scale = factors.scale,
                        .read_a = read(factors.a),
                        .read_b = read(factors.b)});
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "the change of tensor ", JsonQuote(tensor),
      " depends on the base or replaces it: its effect has a norm"));
}

}  // namespace cairn
