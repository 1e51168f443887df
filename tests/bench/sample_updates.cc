#include "tests/bench/sample_updates.h"

#include <cmath>
#include <utility>

#include "core/base/status_macros.h"
#include "core/tensor/checkpoint.h"

namespace cairn {
namespace {

float Spread(const Matrix& matrix) {
  double sum = 0;
  for (const float value : matrix.values) sum += double{value} * value;
  return static_cast<float>(
      std::sqrt(sum / static_cast<double>(matrix.values.size())));
}

}  // namespace

std::string Packed(const Matrix& matrix) {
  std::string bytes(
      matrix.values.size() * static_cast<size_t>(DTypeBits(matrix.dtype) / 8),
      '\0');
  FromFloats(matrix.dtype, matrix.values, absl::MakeSpan(bytes));
  return bytes;
}

void Round(Matrix& matrix) {
  ToFloats(matrix.dtype, Packed(matrix), absl::MakeSpan(matrix.values));
}

Normals::Normals(uint32_t seed) : random_(seed), pool_(size_t{1} << 22) {
  std::normal_distribution<float> normal;
  for (float& value : pool_) value = normal(random_);
}

Weights MakeWeights(DType dtype, Normals& normals) {
  Weights weights;
  for (const float scale : {0.045f, 0.02f, 0.012f, 0.03f, 0.02f, 0.008f}) {
    Matrix& matrix = weights.emplace_back(Matrix{dtype, 2048, 2048, {}});
    matrix.values.resize(matrix.rows * matrix.columns);
    for (float& value : matrix.values) value = scale * normals.Next();
    Matrix& norm = weights.emplace_back(Matrix{dtype, 1, 2048, {}});
    norm.values.resize(2048);
    for (float& value : norm.values) value = 1 + 0.1f * normals.Next();
  }
  for (Matrix& matrix : weights) Round(matrix);
  return weights;
}

absl::StatusOr<Weights> ReadWeights(const std::string& directory) {
  CAIRN_ASSIGN_OR_RETURN(Checkpoint checkpoint,
                         Checkpoint::OpenDirectory(directory));
  Weights weights;
  for (const CheckpointTensor& tensor : checkpoint.tensors()) {
    if (!IsNumeric(tensor.dtype) || tensor.elements() == 0) continue;
    Matrix& matrix = weights.emplace_back(
        Matrix{tensor.dtype, 1, static_cast<size_t>(tensor.elements()), {}});
    if (tensor.shape.size() == 2) {
      matrix.rows = static_cast<size_t>(tensor.shape[0]);
      matrix.columns = static_cast<size_t>(tensor.shape[1]);
    }
    matrix.values.resize(matrix.rows * matrix.columns);
    CAIRN_RETURN_IF_ERROR(
        checkpoint.ReadFloats(tensor.name, 0, absl::MakeSpan(matrix.values)));
  }
  return weights;
}

Update Dense(float change) {
  return [change](Matrix& matrix, Normals& normals) {
    const float scale = change * Spread(matrix);
    for (float& value : matrix.values) value += scale * normals.Next();
  };
}

Update Sparse(double density) {
  return [density](Matrix& matrix, Normals& normals) {
    const float scale = Spread(matrix);
    for (float& value : matrix.values) {
      if (normals.Uniform() < density) value += scale * normals.Next();
    }
  };
}

LowRankSteps MakeMerge(const Matrix& matrix, int updates, float change,
                       Normals& normals) {
  constexpr int64_t kRank = 16;
  if (matrix.rows == 1) return {};
  std::vector<LowRankTerm> terms;
  for (int i = 0; i < updates; ++i) {
    Matrix left{DType::kBF16, matrix.rows, kRank, {}};
    Matrix right{DType::kBF16, kRank, matrix.columns, {}};
    for (Matrix* factor : {&left, &right}) {
      factor->values.resize(factor->rows * factor->columns);
      for (float& value : factor->values) value = normals.Next();
      Round(*factor);
    }
    terms.push_back({.coefficient = change * Spread(matrix) /
                                    std::sqrt(static_cast<float>(updates)),
                     .scale = 1 / std::sqrt(static_cast<float>(kRank)),
                     .rank = kRank,
                     .left = std::move(left.values),
                     .right = std::move(right.values)});
  }
  return {std::move(terms)};
}

std::string Merged(const Matrix& matrix, const LowRankSteps& steps) {
  std::string bytes = Packed(matrix);
  ApplySteps(steps, matrix.dtype, static_cast<int64_t>(matrix.columns), 0,
             absl::MakeSpan(bytes));
  return bytes;
}

Update LowRank(float change) {
  return [change](Matrix& matrix, Normals& normals) {
    ToFloats(matrix.dtype,
             Merged(matrix, MakeMerge(matrix, 1, change, normals)),
             absl::MakeSpan(matrix.values));
  };
}

Update Rows(double share) {
  return [share](Matrix& matrix, Normals& normals) {
    const float scale = 0.1f * Spread(matrix);
    for (size_t row = 0; row < matrix.rows; ++row) {
      if (normals.Uniform() >= share) continue;
      float* values = matrix.values.data() + row * matrix.columns;
      for (size_t i = 0; i < matrix.columns; ++i) {
        values[i] += scale * normals.Next();
      }
    }
  };
}

Update Steps(int steps, Update update) {
  return [steps, update](Matrix& matrix, Normals& normals) {
    for (int i = 0; i < steps; ++i) {
      update(matrix, normals);
      Round(matrix);
    }
  };
}

}  // namespace cairn
