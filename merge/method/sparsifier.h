#ifndef CAIRN_MERGE_METHOD_SPARSIFIER_H_
#define CAIRN_MERGE_METHOD_SPARSIFIER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "merge/method/tensor_method.h"

namespace cairn {

// Drops elements of a task vector and, when asked, multiplies what is left so
// that the sum of magnitudes is what it was. The tensor is fed in order:
// passes() times to Observe(), then once to Apply(). Ranges hold whole
// multiples of granule() and begin at multiples of kSumBlock.
class Sparsifier {
 public:
  virtual ~Sparsifier() = default;

  virtual int64_t granule() const { return 1; }
  virtual int passes() const { return 0; }
  // As TensorMethod::scope().
  virtual PassScope scope(int /*pass*/) const { return PassScope::kAll; }
  virtual int64_t memory_bytes() const { return 0; }
  // Whether Apply() changes nothing.
  virtual bool keeps_all() const { return false; }
  virtual void Observe(int /*pass*/, int64_t /*first*/, const float* /*values*/,
                       size_t /*count*/) {}
  virtual void EndPass(int /*pass*/) {}
  virtual void Apply(int64_t first, float* values, size_t count) = 0;
  // out = weight * what Apply() leaves of values - base, in one go where there
  // is one. `out` is none of the others.
  virtual void ApplyToDifference(int64_t first, const float* values,
                                 const float* base, float weight, float* out,
                                 size_t count);
  // Notes in `member` what Apply() does to each element on its own; false
  // where that cannot be said.
  virtual bool Describe(ElementMember& /*member*/) const { return false; }
};

std::unique_ptr<Sparsifier> MakeKeepAll();

// The `density` x elements of largest magnitude, at least one unless density
// is 0; of equal ones those later in the tensor.
std::unique_ptr<Sparsifier> MakeMagnitudeTrim(int64_t elements, double density,
                                              bool is_rescaled);

// `density` x elements below the `gamma` x elements of largest magnitude; where
// that leaves too few, fewer of the largest go.
std::unique_ptr<Sparsifier> MakeOutlierTrim(int64_t elements, double density,
                                            double gamma, bool is_rescaled);

// Each with probability `density`.
std::unique_ptr<Sparsifier> MakeRandomDrop(int64_t elements, double density,
                                           uint64_t key, bool is_rescaled);

// Each with a probability that rises with the rank of its magnitude along the
// second axis, from density - epsilon to density + epsilon.
std::unique_ptr<Sparsifier> MakeRankedDrop(const std::vector<int64_t>& shape,
                                           double density, double epsilon,
                                           uint64_t key, bool is_rescaled);

}  // namespace cairn

#endif  // CAIRN_MERGE_METHOD_SPARSIFIER_H_
