#include "merge/peft/lora_combination.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "merge/matrix/decompose.h"
#include "merge/method/counter_random.h"

namespace cairn {
namespace {

using Rule = LoraCombination::Rule;
using Space = LoraCombination::Space;

constexpr std::pair<const char*, Rule> kRules[] = {
    {"linear", Rule::kSum},
    {"ties", Rule::kTies},
    {"dare_linear", Rule::kDareLinear},
    {"dare_ties", Rule::kDareTies},
    {"magnitude_prune", Rule::kMagnitudePrune}};

// Directions below this share of the largest are none.
constexpr double kTolerance = 1e-12;

// Keeps the share of the largest magnitudes; of equal ones the later.
void PruneByMagnitude(double density, Matrix& matrix) {
  std::vector<double>& values = matrix.values();
  if (density >= 1) return;
  const auto kept =
      static_cast<size_t>(density * static_cast<double>(values.size()));
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto cut = order.begin() + static_cast<std::ptrdiff_t>(kept);
  std::nth_element(order.begin(), cut, order.end(), [&](size_t a, size_t b) {
    const double x = std::abs(values[a]), y = std::abs(values[b]);
    return x != y ? x > y : a > b;
  });
  std::for_each(cut, order.end(), [&](size_t i) { values[i] = 0; });
}

// Keeps each element with the probability `density` and divides by it.
void PruneAtRandom(double density, uint64_t key, Matrix& matrix) {
  std::vector<double>& values = matrix.values();
  if (density >= 1) return;
  std::vector<uint32_t> words(values.size());
  RandomWords(key, 0, words.data(), words.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const bool is_kept = static_cast<double>(words[i]) < density * 4294967296.0;
    values[i] = is_kept ? values[i] / density : 0;
  }
}

// The mean of the weighted values whose sign is the elected one; a sum of
// zero elects the positive. Signs are elected before weights.
Matrix MergeDisjoint(const std::vector<Matrix>& tensors,
                     const std::vector<double>& weights,
                     LoraCombination::Majority majority) {
  const auto sign = [](double x) { return (x > 0) - (x < 0); };
  Matrix merged(tensors[0].rows(), tensors[0].columns());
  for (size_t i = 0; i < merged.values().size(); ++i) {
    double votes = 0;
    for (const Matrix& tensor : tensors) {
      const double value = tensor.values()[i];
      votes += majority == LoraCombination::Majority::kTotal ? value
                                                             : sign(value);
    }
    const int elected = votes >= 0 ? 1 : -1;
    double sum = 0;
    int agreeing = 0;
    for (size_t k = 0; k < tensors.size(); ++k) {
      const double value = tensors[k].values()[i];
      if (sign(value) != elected) continue;
      sum += weights[k] * value;
      ++agreeing;
    }
    merged.values()[i] = sum / std::max(agreeing, 1);
  }
  return merged;
}

// Merges tensors of one shape. `keys` make random masks.
Matrix MergeTensors(std::vector<Matrix> tensors,
                    const std::vector<double>& weights,
                    const std::vector<uint64_t>& keys,
                    const LoraCombination& combination) {
  for (size_t k = 0; k < tensors.size(); ++k) {
    switch (combination.rule) {
      case Rule::kSum:
        break;
      case Rule::kTies:
      case Rule::kMagnitudePrune:
        PruneByMagnitude(combination.density, tensors[k]);
        break;
      case Rule::kDareLinear:
      case Rule::kDareTies:
        PruneAtRandom(combination.density, keys[k], tensors[k]);
        break;
    }
  }
  if (combination.rule == Rule::kTies || combination.rule == Rule::kDareTies) {
    return MergeDisjoint(tensors, weights, combination.majority);
  }
  Matrix sum(tensors[0].rows(), tensors[0].columns());
  for (size_t k = 0; k < tensors.size(); ++k) {
    for (size_t i = 0; i < sum.values().size(); ++i) {
      sum.values()[i] += weights[k] * tensors[k].values()[i];
    }
  }
  return sum;
}

// All factors side by side, weights folded into the left ones.
CombinedFactors SideBySide(const std::vector<LoraPart>& parts) {
  int64_t rank = 0;
  for (const LoraPart& part : parts) rank += part.left.columns();
  CombinedFactors out;
  out.left = Matrix(parts[0].left.rows(), rank);
  out.right = Matrix(rank, parts[0].right.columns());
  int64_t first = 0;
  for (const LoraPart& part : parts) {
    for (int64_t r = 0; r < part.left.rows(); ++r) {
      for (int64_t c = 0; c < part.left.columns(); ++c) {
        out.left(r, first + c) = part.weight * part.scale * part.left(r, c);
      }
    }
    for (int64_t r = 0; r < part.right.rows(); ++r) {
      std::copy_n(part.right.row(r), part.right.columns(),
                  out.right.row(first + r));
    }
    first += part.left.columns();
  }
  return out;
}

// |left right|^2 = <left^T left, right right^T>
double SquareOfProduct(const Matrix& left, const Matrix& right) {
  return Dot(GramOf(left), GramOf(MatrixView(right).Transposed()));
}

// Makes factors of the largest directions of q_left * core * q_right^T; where
// the two are null they are the identity. The singular values are shared out
// evenly. Adds what is cut off.
absl::Status FactorCore(const Matrix& core, const Matrix* q_left,
                        const Matrix* q_right, int64_t rank,
                        CombinedFactors& out) {
  CAIRN_ASSIGN_OR_RETURN(const Svd svd, DecomposeSingular(core, 0));
  out.whole = out.lost = 0;
  for (int64_t i = 0; i < svd.rank(); ++i) {
    const double value = svd.values[static_cast<size_t>(i)];
    out.whole += value * value;
    if (i >= rank) out.lost += value * value;
  }
  const int64_t kept = std::min(rank, svd.rank());
  std::vector<double> roots;
  for (int64_t i = 0; i < kept; ++i) {
    roots.push_back(std::sqrt(svd.values[static_cast<size_t>(i)]));
  }
  Matrix u(MatrixView(svd.left).Columns(0, kept));
  Matrix v(MatrixView(svd.right).Columns(0, kept));
  ScaleColumns(roots, u);
  ScaleColumns(roots, v);
  if (kept == 0) {
    // At least rank 1, of zeros, so that the module is still there.
    out.left = Matrix(q_left != nullptr ? q_left->rows() : core.rows(), 1);
    out.right = Matrix(1, q_right != nullptr ? q_right->rows() : core.columns());
    return absl::OkStatus();
  }
  if (q_left != nullptr) u = Multiply(*q_left, u);
  if (q_right != nullptr) v = Multiply(*q_right, v);
  out.left = std::move(u);
  out.right = Matrix(MatrixView(v).Transposed());
  return absl::OkStatus();
}

// Cuts factors to a rank, by the singular values of the product of their
// triangles.
absl::Status CutFactors(int64_t rank, CombinedFactors& factors) {
  CAIRN_ASSIGN_OR_RETURN(const Basis left,
                         OrthonormalBasis(factors.left, kTolerance));
  CAIRN_ASSIGN_OR_RETURN(
      const Basis right,
      OrthonormalBasis(MatrixView(factors.right).Transposed(), kTolerance));
  const Matrix core = Multiply(left.r, MatrixView(right.r).Transposed());
  return FactorCore(core, &left.q, &right.q, rank, factors);
}

absl::StatusOr<CombinedFactors> CombineEachFactor(
    const std::vector<LoraPart>& parts, const LoraCombination& combination) {
  std::vector<Matrix> lefts, rights;
  std::vector<double> left_weights, right_weights;
  std::vector<uint64_t> left_keys, right_keys;
  for (const LoraPart& part : parts) {
    if (part.left.columns() != parts[0].left.columns()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "has the ranks ", parts[0].left.columns(), " and ",
          part.left.columns(),
          "; factors of one rank alone can be merged each for itself: use cat "
          "or one of the kinds that end in svd"));
    }
    const double weight = part.weight * part.scale;
    const double root = std::sqrt(std::abs(weight));
    lefts.push_back(part.left);
    rights.push_back(part.right);
    left_weights.push_back(root);
    // The sign on one side only.
    right_weights.push_back(weight >= 0 ? root : -root);
    left_keys.push_back(part.random_key);
    right_keys.push_back(~part.random_key);
  }
  CombinedFactors out;
  out.left =
      MergeTensors(std::move(lefts), left_weights, left_keys, combination);
  out.right =
      MergeTensors(std::move(rights), right_weights, right_keys, combination);
  const CombinedFactors exact = SideBySide(parts);
  out.whole = SquareOfProduct(exact.left, exact.right);
  // |exact - out|^2, of the factors of the difference.
  const CombinedFactors difference =
      SideBySide({{.left = exact.left, .right = exact.right, .weight = 1},
                  {.left = out.left, .right = out.right, .weight = -1}});
  out.lost = std::max(0.0, SquareOfProduct(difference.left, difference.right));
  return out;
}

absl::StatusOr<CombinedFactors> CombineProducts(
    const std::vector<LoraPart>& parts, const LoraCombination& combination,
    int64_t rank) {
  std::vector<Matrix> products;
  std::vector<double> weights;
  std::vector<uint64_t> keys;
  for (const LoraPart& part : parts) {
    products.push_back(Multiply(part.left, part.right));
    ScaleBy(part.scale, products.back());
    weights.push_back(part.weight);
    keys.push_back(part.random_key);
  }
  const Matrix merged =
      MergeTensors(std::move(products), weights, keys, combination);
  CombinedFactors out;
  CAIRN_RETURN_IF_ERROR(FactorCore(merged, nullptr, nullptr, rank, out));
  return out;
}

}  // namespace

std::optional<LoraCombination> LoraCombination::Parse(absl::string_view name) {
  if (name == "cat") return LoraCombination();
  if (name == "svd") return LoraCombination{.space = Space::kProducts};
  for (const auto& [rule_name, rule] : kRules) {
    if (name == rule_name) {
      return LoraCombination{.space = Space::kFactors, .rule = rule};
    }
    if (rule != Rule::kSum && name == absl::StrCat(rule_name, "_svd")) {
      return LoraCombination{.space = Space::kProducts, .rule = rule};
    }
  }
  return std::nullopt;
}

std::vector<std::string> LoraCombination::Names() {
  std::vector<std::string> names = {"cat", "svd"};
  for (const auto& [name, rule] : kRules) {
    names.push_back(name);
    if (rule != Rule::kSum) names.push_back(absl::StrCat(name, "_svd"));
  }
  return names;
}

absl::StatusOr<CombinedFactors> CombineLoras(
    const std::vector<LoraPart>& parts, const LoraCombination& combination,
    std::optional<int64_t> rank_max) {
  int64_t largest = 1;
  for (const LoraPart& part : parts) {
    largest = std::max(largest, part.left.columns());
  }
  if (combination.space == Space::kFactors) {
    CAIRN_ASSIGN_OR_RETURN(CombinedFactors out,
                           CombineEachFactor(parts, combination));
    if (!rank_max || out.left.columns() <= *rank_max) return out;
    CAIRN_RETURN_IF_ERROR(CutFactors(*rank_max, out));
    return out;
  }
  const bool is_product = combination.space == Space::kProducts;
  if (is_product && combination.rule != Rule::kSum) {
    return CombineProducts(parts, combination, rank_max.value_or(largest));
  }
  CombinedFactors out = SideBySide(parts);
  if (is_product && !rank_max) rank_max = largest;
  if (rank_max && out.left.columns() > *rank_max) {
    CAIRN_RETURN_IF_ERROR(CutFactors(*rank_max, out));
  } else {
    out.whole = SquareOfProduct(out.left, out.right);
  }
  return out;
}

}  // namespace cairn
