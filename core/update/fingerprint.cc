#include "core/update/fingerprint.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/tensor/tensor_norm.h"
#include "core/update/effects.h"
#include "core/update/symmetric_eigenvalues.h"

namespace cairn {
namespace {

constexpr size_t kSide = 32;
constexpr int64_t kTileElements = 1 << 16;
constexpr int64_t kFactorBytesMax = int64_t{256} << 20;
constexpr int64_t kRankMax = 256;
constexpr int64_t kSampledRows = 16;
constexpr size_t kTopRows = 8;
// A table of fewer rows is the head of a classifier, not a vocabulary.
constexpr int64_t kVocabularyRowsMin = 64;

size_t Size(int64_t count) { return static_cast<size_t>(count); }

// A mixing of 64 bits (splitmix64).
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

uint64_t SeedOf(absl::string_view name) {
  uint64_t seed = 0;
  for (char c : name) seed = Mix(seed ^ static_cast<unsigned char>(c));
  return seed;
}

// Where a row or column goes, and with which sign.
struct Bucket {
  size_t at;
  double sign;
};
Bucket BucketOf(uint64_t seed, int64_t index) {
  const uint64_t hash = Mix(seed ^ static_cast<uint64_t>(index));
  return {.at = Size(static_cast<int64_t>(hash % kSide)),
          .sign = (hash >> 32) % 2 == 0 ? 1.0 : -1.0};
}

struct Shape {
  int64_t rows;
  int64_t columns;
};
Shape ShapeOf(const TouchedTensor& tensor) {
  if (tensor.shape.empty()) return {1, 1};
  Shape out{tensor.shape[0], 1};
  for (size_t i = 1; i < tensor.shape.size(); ++i) {
    out.columns *= tensor.shape[i];
  }
  return out;
}

bool IsVocabulary(const TouchedTensor& tensor) {
  return IsEmbeddingOrHead(tensor.name) &&
         ShapeOf(tensor).rows >= kVocabularyRowsMin;
}

// Collects the features of a whole update.
class Recorder {
 public:
  Recorder() : sketch_(kSide * kSide) {}

  // One row of the change of a tensor at the place it has in the base.
  template <typename Values>
  void CountSigns(const Values& values) {
    for (const auto value : values) {
      changed_ += value != 0;
      positive_ += value > 0;
    }
    elements_ += static_cast<int64_t>(values.size());
  }
  void AddRowEnergy(double energy) {
    if (energy > 0) row_energies_.push_back(energy);
  }
  void AddToSketch(size_t row, size_t column, double value) {
    sketch_[row * kSide + column] += value;
  }

  Fingerprint Finish(std::vector<LayerFeatures> layers) {
    Fingerprint out;
    out.layers = std::move(layers);
    out.sketch.assign(sketch_.begin(), sketch_.end());
    out.elements = elements_;
    out.changed = changed_;
    out.positive = positive_;
    out.vocabulary_rows = static_cast<int64_t>(row_energies_.size());
    std::sort(row_energies_.rbegin(), row_energies_.rend());
    const double total =
        std::accumulate(row_energies_.begin(), row_energies_.end(), 0.0);
    const auto top =
        row_energies_.begin() +
        static_cast<std::ptrdiff_t>(std::min(kTopRows, row_energies_.size()));
    if (total > 0) {
      out.vocabulary_concentration =
          std::accumulate(row_energies_.begin(), top, 0.0) / total;
    }
    out.vocabulary_gap = LargestGap();
    return out;
  }

 private:
  // Of the sorted row energies; see Fingerprint.
  double LargestGap() const {
    if (row_energies_.size() < 2 * kTopRows) return 0;
    double largest = 0;
    auto mean = [&](size_t from, size_t count) {
      const auto begin =
          row_energies_.begin() + static_cast<std::ptrdiff_t>(from);
      return std::accumulate(begin, begin + static_cast<std::ptrdiff_t>(count),
                             0.0) /
             static_cast<double>(count);
    };
    for (size_t k = 1; k <= 4; ++k) {
      largest = std::max(largest, mean(0, k) / mean(k, kTopRows));
    }
    return largest;
  }

  std::vector<double> sketch_;
  int64_t elements_ = 0, changed_ = 0, positive_ = 0;
  std::vector<double> row_energies_;
};

// factors^T * factors of a row-major [count, rank] matrix.
std::vector<double> Gram(const std::vector<double>& factors, size_t rank) {
  std::vector<double> gram(rank * rank);
  for (size_t at = 0; at < factors.size(); at += rank) {
    for (size_t i = 0; i < rank; ++i) {
      const double factor = factors[at + i];
      for (size_t k = i; k < rank; ++k) {
        gram[i * rank + k] += factor * factors[at + k];
      }
    }
  }
  for (size_t i = 0; i < rank; ++i) {
    for (size_t k = 0; k < i; ++k) gram[i * rank + k] = gram[k * rank + i];
  }
  return gram;
}

// A low-rank change as left * right^T, both [count, rank] in double.
struct Sides {
  std::vector<double> left;   // rows of the base's tensor
  std::vector<double> right;  // its columns
  size_t rank = 0;
};

Sides SidesOf(const LoraFactors& factors) {
  Sides out;
  out.rank = Size(factors.rank);
  std::vector<double> in(factors.a.size()), outer(factors.b.size());
  const size_t width = Size(factors.in);
  for (size_t k = 0; k < out.rank; ++k) {
    for (size_t i = 0; i < width; ++i) {
      in[i * out.rank + k] = factors.a[k * width + i];
    }
  }
  for (size_t i = 0; i < outer.size(); ++i) {
    outer[i] = factors.scale * factors.b[i];
  }
  out.left = std::move(factors.transposed ? in : outer);
  out.right = std::move(factors.transposed ? outer : in);
  return out;
}

void SummariseSpectrum(const std::vector<double>& singular,
                       LayerFeatures& layer) {
  double total = 0, entropy = 0;
  for (double value : singular) total += value * value;
  layer.norm = std::sqrt(total);
  if (total <= 0) return;
  for (double value : singular) {
    const double share = value * value / total;
    if (share > 0) entropy -= share * std::log(share);
  }
  layer.leading_share = singular[0] * singular[0] / total;
  layer.effective_rank = std::exp(entropy);
}

// Sums of the rows of `factors`, by bucket, with signs: [kSide, rank].
std::vector<double> Hashed(const std::vector<double>& factors, size_t rank,
                           uint64_t seed) {
  std::vector<double> out(kSide * rank);
  for (size_t at = 0; at < factors.size(); at += rank) {
    const Bucket to = BucketOf(seed, static_cast<int64_t>(at / rank));
    for (size_t k = 0; k < rank; ++k) {
      out[to.at * rank + k] += to.sign * factors[at + k];
    }
  }
  return out;
}

double Dot(const double* a, const double* b, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

void RecordLowRank(const TouchedTensor& tensor, const Sides& sides,
                   Recorder& recorder, LayerFeatures& layer) {
  const size_t rank = sides.rank;
  layer.rank = static_cast<int64_t>(rank);
  const std::vector<double> gram_right = Gram(sides.right, rank);
  SummariseSpectrum(
      SingularValuesOfProduct(gram_right, Gram(sides.left, rank), rank), layer);
  const uint64_t seed = SeedOf(tensor.name);
  const auto left = Hashed(sides.left, rank, seed);
  const auto right = Hashed(sides.right, rank, ~seed);
  for (size_t row = 0; row < kSide; ++row) {
    for (size_t column = 0; column < kSide; ++column) {
      recorder.AddToSketch(row, column,
                           Dot(&left[row * rank], &right[column * rank], rank));
    }
  }
  const size_t rows = sides.left.size() / rank;
  const size_t columns = sides.right.size() / rank;
  const size_t step = std::max<size_t>(1, rows / Size(kSampledRows));
  std::vector<double> line(columns);
  for (size_t row = 0; row < rows; row += step) {
    for (size_t i = 0; i < columns; ++i) {
      line[i] = Dot(&sides.left[row * rank], &sides.right[i * rank], rank);
    }
    recorder.CountSigns(line);
  }
  if (!IsVocabulary(tensor)) return;
  for (size_t row = 0; row < rows; ++row) {
    const double* at = &sides.left[row * rank];
    double energy = 0;
    for (size_t i = 0; i < rank; ++i) {
      energy += at[i] * Dot(&gram_right[i * rank], at, rank);
    }
    recorder.AddRowEnergy(energy);
  }
}

// A change that is told by an effect, tile by tile.
class EffectReader {
 public:
  EffectReader(const TensorEffect& effect, const TouchedTensor& tensor,
               const BaseValues& base)
      : effect_(effect),
        base_(base),
        name_(tensor.name),
        shape_(ShapeOf(tensor)),
        seed_(SeedOf(tensor.name)),
        is_vocabulary_(IsVocabulary(tensor)) {}

  absl::Status Record(Recorder& recorder, LayerFeatures& layer) {
    columns_.reserve(Size(shape_.columns));
    for (int64_t i = 0; i < shape_.columns; ++i) {
      columns_.push_back(BucketOf(~seed_, i));
    }
    const int64_t elements = shape_.rows * shape_.columns;
    for (int64_t first = 0; first < elements; first += kTileElements) {
      CAIRN_RETURN_IF_ERROR(
          ReadTile(first, std::min(kTileElements, elements - first)));
      recorder.CountSigns(change_);
      AddTile(first, recorder);
    }
    if (is_vocabulary_) recorder.AddRowEnergy(row_energy_);
    layer.norm = std::sqrt(squares_);
    return absl::OkStatus();
  }

 private:
  absl::Status ReadTile(int64_t first, int64_t count) {
    change_.resize(Size(count));
    CAIRN_RETURN_IF_ERROR(
        ReadChange(effect_, base_, first, before_, absl::MakeSpan(change_)));
    const bool is_finite =
        std::all_of(change_.begin(), change_.end(),
                    [](float value) { return std::isfinite(value); });
    if (is_finite) return absl::OkStatus();
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, "NON_FINITE",
        absl::StrCat("the values for tensor ", JsonQuote(name_),
                     " hold a NaN or an infinity"),
        {{"tensor", name_}});
  }

  void AddTile(int64_t first, Recorder& recorder) {
    for (size_t i = 0; i < change_.size(); ++i) {
      const double value = static_cast<double>(change_[i]);
      if (value == 0) continue;
      const int64_t at = first + static_cast<int64_t>(i);
      const int64_t row = at / shape_.columns;
      if (row != row_) {
        if (is_vocabulary_) recorder.AddRowEnergy(row_energy_);
        row_ = row;
        row_energy_ = 0;
        to_ = BucketOf(seed_, row);
      }
      const Bucket& column = columns_[Size(at % shape_.columns)];
      recorder.AddToSketch(to_.at, column.at, to_.sign * column.sign * value);
      squares_ += value * value;
      row_energy_ += value * value;
    }
  }

  const TensorEffect& effect_;
  const BaseValues base_;
  const std::string name_;
  const Shape shape_;
  const uint64_t seed_;
  const bool is_vocabulary_;
  std::vector<Bucket> columns_;
  std::vector<float> before_, change_;
  int64_t row_ = -1;
  Bucket to_{0, 1};
  double row_energy_ = 0;
  double squares_ = 0;
};

// What is too large to be looked at whole is given a norm only.
absl::Status RecordTensor(const Update& update, const TouchedTensor& tensor,
                          const BaseValues& base, Recorder& recorder,
                          LayerFeatures& layer) {
  const int64_t factor_bytes = update.FactorBytes(tensor.name);
  if (factor_bytes > kFactorBytesMax) {
    CAIRN_ASSIGN_OR_RETURN(layer.norm,
                           update.DeltaNorm(tensor.name, *base.bytes));
    return absl::OkStatus();
  }
  if (factor_bytes > 0) {
    CAIRN_ASSIGN_OR_RETURN(const LoraFactors factors,
                           update.ReadFactors(tensor.name));
    if (factors.rank <= kRankMax) {
      RecordLowRank(tensor, SidesOf(factors), recorder, layer);
      return absl::OkStatus();
    }
    CAIRN_ASSIGN_OR_RETURN(layer.norm,
                           update.DeltaNorm(tensor.name, *base.bytes));
    return absl::OkStatus();
  }
  CAIRN_ASSIGN_OR_RETURN(const Effect effect,
                         update.OpenEffect(tensor.name, base));
  return EffectReader(*effect, tensor, base).Record(recorder, layer);
}

}  // namespace

absl::StatusOr<Fingerprint> TakeFingerprint(const Update& update,
                                            const OpenTensor& open_base) {
  Recorder recorder;
  std::vector<LayerFeatures> layers;
  for (const TouchedTensor& tensor : update.touched()) {
    LayerFeatures layer{.tensor = tensor.name};
    CAIRN_ASSIGN_OR_RETURN(BaseTensor base, open_base(tensor));
    if (IsNumeric(base.dtype)) {
      CAIRN_ASSIGN_OR_RETURN(layer.base_norm,
                             FrobeniusNorm(base.dtype, *base.bytes));
    }
    CAIRN_RETURN_IF_ERROR(RecordTensor(
        update, tensor, {.dtype = base.dtype, .bytes = base.bytes.get()},
        recorder, layer));
    layers.push_back(std::move(layer));
  }
  return recorder.Finish(std::move(layers));
}

double Cosine(absl::Span<const float> a, absl::Span<const float> b) {
  if (a.size() != b.size()) return 0;
  double product = 0, squares_a = 0, squares_b = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    product += static_cast<double>(a[i]) * b[i];
    squares_a += static_cast<double>(a[i]) * a[i];
    squares_b += static_cast<double>(b[i]) * b[i];
  }
  if (squares_a <= 0 || squares_b <= 0) return 0;
  return product / std::sqrt(squares_a * squares_b);
}

}  // namespace cairn
