#ifndef CAIRN_TESTS_BENCH_SAMPLE_UPDATES_H_
#define CAIRN_TESTS_BENCH_SAMPLE_UPDATES_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/delta/low_rank_steps.h"
#include "core/tensor/dtype.h"

namespace cairn {

struct Matrix {
  DType dtype;
  size_t rows;
  size_t columns;
  std::vector<float> values;  // as its dtype has them
};
using Weights = std::vector<Matrix>;

// The bytes of a matrix, and its values as those bytes have them.
std::string Packed(const Matrix& matrix);
void Round(Matrix& matrix);

// A few million normal numbers, made once: drawing them costs more than all
// that is measured. Weights and updates take different seeds, or an update
// would be in proportion to its weights.
class Normals {
 public:
  explicit Normals(uint32_t seed);
  float Next() { return pool_[random_() & (pool_.size() - 1)]; }
  double Uniform() {
    return static_cast<double>(random_()) /
           static_cast<double>(std::mt19937::max());
  }

 private:
  std::mt19937 random_;
  std::vector<float> pool_;
};

// Matrices of a transformer with scales of their own, and norms around 1.
Weights MakeWeights(DType dtype, Normals& normals);
absl::StatusOr<Weights> ReadWeights(const std::string& directory);

inline constexpr uint32_t kWeightSeed = 1;
inline constexpr uint32_t kUpdateSeed = 2;

using Update = std::function<void(Matrix&, Normals&)>;

// Every weight moves; the change's norm is this part of the tensor's.
Update Dense(float change);
// A part of the weights moves by about their own size.
Update Sparse(double density);
// The sum of products of factors of rank 16 is added to every matrix.
Update LowRank(float change);
// A part of the rows moves, all weights of a row.
Update Rows(double share);
// One step after the other, each rounded as a release is.
Update Steps(int steps, Update update);

// One merge of updates of rank 16 into a matrix; none into a vector. Their
// factors are in BF16, as trainers write them.
LowRankSteps MakeMerge(const Matrix& matrix, int updates, float change,
                       Normals& normals);
std::string Merged(const Matrix& matrix, const LowRankSteps& steps);

}  // namespace cairn

#endif  // CAIRN_TESTS_BENCH_SAMPLE_UPDATES_H_
