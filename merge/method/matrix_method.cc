#include "merge/method/matrix_method.h"

#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"
#include "merge/method/method_makers.h"
#include "merge/method/tile_math.h"

namespace cairn {
namespace {

// base + factor x sum of weight x tau.
class MeanMethod : public TensorMethod {
 public:
  explicit MeanMethod(const MethodTask& task)
      : base_(*task.base), others_(task.Others()), tau_(kSumBlock) {
    const double share =
        task.Shared("lambda") / static_cast<double>(others_.size());
    for (size_t i : others_) {
      factors_.push_back(static_cast<float>(
          share * task.inputs[i].parameters.at("weight")));
    }
  }

  void Combine(const InputTile& tile, float* out) override {
    for (size_t begin = 0; begin < tile.count; begin += kSumBlock) {
      const size_t count = std::min(kSumBlock, tile.count - begin);
      const float* base = tile.inputs[base_] + begin;
      std::fill_n(out + begin, count, 0.0f);
      for (size_t k = 0; k < others_.size(); ++k) {
        Subtract(tile.inputs[others_[k]] + begin, base, tau_.data(), count);
        AddScaledTo(factors_[k], tau_.data(), out + begin, count);
      }
      Add(out + begin, base, out + begin, count);
    }
  }

 private:
  const size_t base_;
  const std::vector<size_t> others_;
  std::vector<float> factors_;
  std::vector<float> tau_;
};

}  // namespace

MatrixMethod::MatrixMethod(MethodTask task, Merge merge, int64_t work_bytes)
    : task_(std::move(task)),
      merge_(std::move(merge)),
      work_bytes_(work_bytes),
      others_(task_.Others()) {}

int64_t MatrixMethod::memory_bytes() const {
  // Task vectors and the result in float, the result in double.
  return task_.elements() * (4 * static_cast<int64_t>(others_.size()) + 12) +
         work_bytes_;
}

void MatrixMethod::Observe(int, const InputTile& tile) {
  const auto elements = static_cast<size_t>(task_.elements());
  taus_.resize(others_.size());
  for (size_t k = 0; k < others_.size(); ++k) {
    taus_[k].resize(elements);
    float* tau = taus_[k].data() + tile.first;
    Subtract(tile.inputs[others_[k]], tile.inputs[*task_.base], tau,
             tile.count);
    const auto weight =
        static_cast<float>(task_.inputs[others_[k]].parameters.at("weight"));
    if (weight != 1) Scale(weight, tau, tau, tile.count);
  }
}

absl::Status MatrixMethod::EndPass(int) {
  std::vector<MatrixView> views;
  for (const auto& tau : taus_) {
    views.emplace_back(tau.data(), RowsOf(task_), ColumnsOf(task_));
  }
  CAIRN_ASSIGN_OR_RETURN(const Matrix merged, merge_(views));
  const double lambda = task_.Shared("lambda");
  merged_.reserve(merged.values().size());
  for (double value : merged.values()) {
    merged_.push_back(static_cast<float>(lambda * value));
  }
  taus_.clear();
  return absl::OkStatus();
}

void MatrixMethod::Combine(const InputTile& tile, float* out) {
  Add(merged_.data() + tile.first, tile.inputs[*task_.base], out, tile.count);
}

int64_t RowsOf(const MethodTask& task) {
  return task.shape.size() == 2 ? task.shape[0] : 1;
}

int64_t ColumnsOf(const MethodTask& task) {
  return task.shape.size() == 2 ? task.shape[1] : task.elements();
}

bool IsMatrixTask(const MethodTask& task) {
  return task.shape.size() == 2 && task.elements() > 0 &&
         task.Shared("matrix") != 0;
}

std::unique_ptr<TensorMethod> MakeMeanMethod(const MethodTask& task) {
  return std::make_unique<MeanMethod>(task);
}

std::vector<MethodParameter> MatrixParameters(double lambda) {
  return {SharedNumber("lambda", lambda, -kLargest, kLargest),
          OtherNumber("weight", 1.0, -kLargest, kLargest),
          SharedBool("matrix", true), SharedNumber("tolerance", 1e-5, 0, 1)};
}

Matrix SumOf(const std::vector<MatrixView>& taus) {
  Matrix sum(taus[0].rows, taus[0].columns);
  for (const MatrixView& tau : taus) {
    for (int64_t r = 0; r < sum.rows(); ++r) {
      double* row = sum.row(r);
      for (int64_t c = 0; c < sum.columns(); ++c) row[c] += tau.At(r, c);
    }
  }
  return sum;
}

}  // namespace cairn
