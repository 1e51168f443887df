#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/matrix/decompose.h"
#include "merge/method/matrix_method.h"
#include "merge/method/method_makers.h"

namespace cairn {
namespace {

using Grams = std::vector<std::shared_ptr<const WholeTensor>>;

// alpha x the Gram matrix, and its own diagonal.
absl::StatusOr<Matrix> Shrunk(const WholeTensor& gram, double alpha) {
  const int64_t size = gram.shape()[0];
  Matrix shrunk(size, size);
  std::vector<float> row(static_cast<size_t>(size));
  for (int64_t r = 0; r < size; ++r) {
    CAIRN_RETURN_IF_ERROR(gram.Read(r * size, absl::MakeSpan(row)));
    for (int64_t c = 0; c < size; ++c) {
      shrunk(r, c) =
          (r == c ? 1.0 : alpha) * static_cast<double>(row[static_cast<size_t>(c)]);
    }
  }
  return shrunk;
}

absl::StatusOr<Matrix> MergeRegmean(const std::vector<MatrixView>& taus,
                                    const Grams& grams, double alpha,
                                    double ridge) {
  const int64_t size = grams[0]->shape()[0];
  // As [in, out], whichever way the tensor is stored.
  const bool is_out_first = taus[0].columns == size;
  const auto oriented = [&](const MatrixView& tau) {
    return is_out_first ? tau.Transposed() : tau;
  };
  Matrix sum(size, size);
  Matrix right(size, oriented(taus[0]).columns);
  for (size_t t = 0; t < taus.size(); ++t) {
    CAIRN_ASSIGN_OR_RETURN(const Matrix gram, Shrunk(*grams[t], alpha));
    for (size_t i = 0; i < sum.values().size(); ++i) {
      sum.values()[i] += gram.values()[i];
    }
    AddProduct(1.0, gram, oriented(taus[t]), right);
  }
  double trace = 0;
  for (int64_t i = 0; i < size; ++i) trace += sum(i, i);
  for (int64_t i = 0; i < size; ++i) {
    sum(i, i) += ridge * trace / static_cast<double>(size);
  }
  const absl::Status solved = SolvePositiveDefinite(std::move(sum), right);
  if (!solved.ok()) {
    return absl::InvalidArgumentError(
        "the sum of the Gram matrices is not positive definite: use a smaller "
        "alpha or a larger ridge");
  }
  return is_out_first ? Matrix(MatrixView(right).Transposed())
                      : std::move(right);
}

absl::Status CheckGram(const MethodTask& task, const WholeTensor& gram) {
  const std::vector<int64_t>& shape = gram.shape();
  if (shape.size() == 2 && shape[0] == shape[1] &&
      (shape[0] == ColumnsOf(task) || shape[0] == RowsOf(task))) {
    return absl::OkStatus();
  }
  return ReasonedError(
      absl::StatusCode::kInvalidArgument, "SHAPE_MISMATCH",
      absl::StrCat("a Gram matrix of inputs must be square with ",
                   ColumnsOf(task), " rows (or ", RowsOf(task),
                   ", where the tensor is stored [in, out])"));
}

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeRegmean(MethodTask task) {
  Grams grams;
  const std::vector<size_t> others = task.Others();
  for (size_t i : others) {
    if (task.inputs[i].gram != nullptr) grams.push_back(task.inputs[i].gram);
  }
  if (grams.empty() || !IsMatrixTask(task)) return MakeMeanMethod(task);
  if (grams.size() != others.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("only ", grams.size(), " of ", others.size(),
                     " models bring a Gram matrix for it: either all do, and "
                     "it is solved for, or none, and it is averaged"));
  }
  for (const auto& gram : grams) CAIRN_RETURN_IF_ERROR(CheckGram(task, *gram));
  const double alpha = task.Shared("alpha"), ridge = task.Shared("ridge");
  const int64_t size = grams[0]->shape()[0];
  const int64_t work = 8 * (3 * size * size + task.elements());
  return std::make_unique<MatrixMethod>(
      std::move(task),
      [=](const std::vector<MatrixView>& taus) {
        return MergeRegmean(taus, grams, alpha, ridge);
      },
      work);
}

}  // namespace

MethodSpec RegmeanMethod() {
  std::vector<MethodParameter> parameters = MatrixParameters(1.0);
  parameters.push_back(SharedNumber("alpha", 0.9, 0, 1));
  parameters.push_back(SharedNumber("ridge", 1e-9, 0, 1));
  parameters.push_back({.name = "gram",
                        .scope = MethodParameter::Scope::kOther,
                        .kind = MethodParameter::Kind::kGramFile});
  return {.name = "regmean",
          .source =
              "arXiv 2212.09849: W^T = base + (sum of G_t)^-1 x sum of G_t "
              "tau_t^T, G_t the Gram matrix of the layer's inputs with its "
              "off-diagonal times alpha; tensors without one are averaged",
          .base = MethodSpec::Base::kRequired,
          .others_min = 1,
          .is_on_deltas = true,
          .parameters = std::move(parameters),
          .make = MakeRegmean};
}

}  // namespace cairn
