#ifndef CAIRN_MERGE_METHOD_MATRIX_METHOD_H_
#define CAIRN_MERGE_METHOD_MATRIX_METHOD_H_

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "merge/matrix/matrix.h"
#include "merge/method/tensor_method.h"

namespace cairn {

// base + lambda x a matrix that is made of all task vectors of a tensor at
// once, which are therefore held in memory. A tensor of two axes is a matrix
// as it is stored.
class MatrixMethod : public TensorMethod {
 public:
  // The merged task vector of matrices of one shape, in double.
  using Merge = std::function<absl::StatusOr<Matrix>(
      const std::vector<MatrixView>& taus)>;

  // `work_bytes`: what `merge` takes besides its arguments and its result.
  MatrixMethod(MethodTask task, Merge merge, int64_t work_bytes);

  int passes() const override { return 1; }
  int64_t memory_bytes() const override;
  void Observe(int pass, const InputTile& tile) override;
  absl::Status EndPass(int pass) override;
  void Combine(const InputTile& tile, float* out) override;

 private:
  const MethodTask task_;
  const Merge merge_;
  const int64_t work_bytes_;
  const std::vector<size_t> others_;
  std::vector<std::vector<float>> taus_;
  std::vector<float> merged_;
};

// Rows and columns of a task's tensor; one row unless it has two axes.
int64_t RowsOf(const MethodTask& task);
int64_t ColumnsOf(const MethodTask& task);

// Whether a method for matrices is to treat the tensor as one: it has two axes
// and the parameter "matrix", which filters can switch off for embeddings, is
// not 0.
bool IsMatrixTask(const MethodTask& task);

// For every other tensor: base + lambda x mean of weight x tau.
std::unique_ptr<TensorMethod> MakeMeanMethod(const MethodTask& task);

// The parameters "lambda", "weight" of each input, "matrix" and "tolerance":
// singular values below that share of the largest count as nothing.
std::vector<MethodParameter> MatrixParameters(double lambda);

// Sum of the matrices.
Matrix SumOf(const std::vector<MatrixView>& taus);

}  // namespace cairn

#endif  // CAIRN_MERGE_METHOD_MATRIX_METHOD_H_
