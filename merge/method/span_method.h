#ifndef CAIRN_MERGE_METHOD_SPAN_METHOD_H_
#define CAIRN_MERGE_METHOD_SPAN_METHOD_H_

#include <vector>

#include "merge/method/gram.h"
#include "merge/method/tensor_method.h"

namespace cairn {

// A method whose result lies in the span of its inputs: for each vector of the
// layout, base + sum of coefficient x (input - base), or without a base the
// sum of coefficient x input. The coefficients follow from the inner products,
// which one pass over the tensor gives exactly enough.
class SpanMethod : public TensorMethod {
 public:
  int64_t granule() const override { return layout_.granule(); }
  int passes() const override { return 1; }
  int64_t memory_bytes() const override {
    return gram_.memory_bytes() +
           static_cast<int64_t>(coefficients_.size() * sizeof(float));
  }
  void Observe(int, const InputTile& tile) override { gram_.Observe(tile); }
  absl::Status EndPass(int) override;
  void Combine(const InputTile& tile, float* out) override;
  std::optional<ElementFormula> Formula() const override;

 protected:
  // `members`: inputs that the coefficients are of. `less_base`: they count
  // from the task's base, which is added at the end.
  SpanMethod(MethodTask task, VectorLayout layout, std::vector<size_t> members,
             bool less_base);

  // The coefficients of the members for one vector.
  virtual absl::StatusOr<std::vector<double>> Coefficients(
      const Gram& gram, int64_t vector) const = 0;

  const MethodTask& task() const { return task_; }

 private:
  const MethodTask task_;
  const VectorLayout layout_;
  const std::vector<size_t> members_;
  const bool less_base_;
  Gram gram_;
  std::vector<float> coefficients_;  // [vector][member]
};

}  // namespace cairn

#endif  // CAIRN_MERGE_METHOD_SPAN_METHOD_H_
