#ifndef CAIRN_MERGE_METHOD_TASK_VECTOR_METHOD_H_
#define CAIRN_MERGE_METHOD_TASK_VECTOR_METHOD_H_

#include <memory>
#include <vector>

#include "merge/method/sparsifier.h"
#include "merge/method/tensor_method.h"

namespace cairn {

// base + lambda x combination of weight x sparsified (input - base): task
// arithmetic, and TIES when signs are elected. One sparsifier an input.
class TaskVectorMethod : public TensorMethod {
 public:
  // kSum: signs are elected by weighted values, and the divisor is the sum of
  // the weights that agree, as in mergekit. kCount: by values alone, and the
  // divisor is the number of inputs that agree, as in peft and the papers.
  enum class Consensus { kNone, kSum, kCount };

  TaskVectorMethod(MethodTask task, Consensus consensus,
                   std::vector<std::unique_ptr<Sparsifier>> sparsifiers);

  int64_t granule() const override;
  int passes() const override;
  PassScope scope(int pass) const override;
  int64_t memory_bytes() const override;
  void Observe(int pass, const InputTile& tile) override;
  absl::Status EndPass(int pass) override;
  void Combine(const InputTile& tile, float* out) override;
  std::optional<ElementFormula> Formula() const override;

 private:
  // Elements that are worked on at a time.
  size_t StripElements() const;
  void CombineStrip(const InputTile& tile, size_t begin, size_t count,
                    float* out);

  const MethodTask task_;
  const Consensus consensus_;
  const std::vector<size_t> others_;
  std::vector<std::unique_ptr<Sparsifier>> sparsifiers_;
  std::vector<float> weights_;
  bool keeps_all_;
  bool is_normalized_;
  float factor_;  // on what is added to the base
  std::vector<std::vector<float>> deltas_;
  std::vector<const float*> weighted_;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_METHOD_TASK_VECTOR_METHOD_H_
