#ifndef CAIRN_MERGE_METHOD_GRAM_H_
#define CAIRN_MERGE_METHOD_GRAM_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "merge/method/tensor_method.h"

namespace cairn {

// Which elements of a tensor make one vector.
struct VectorLayout {
  enum class Kind { kWhole, kRows, kColumns };

  Kind kind = Kind::kWhole;
  // Elements of a row; for columns, how far the elements of one lie apart.
  int64_t length = 1;

  // The whole tensor.
  static VectorLayout Whole() { return {}; }
  // Along the last axis.
  static VectorLayout Rows(const std::vector<int64_t>& shape);
  // Along the first axis.
  static VectorLayout Columns(const std::vector<int64_t>& shape);

  int64_t granule() const { return kind == Kind::kRows ? length : 1; }
  int64_t vectors(int64_t elements) const;
};

// Inner products of the vectors of several tensors, in double, gathered tile
// by tile. Not thread-safe.
class Gram {
 public:
  // Of the inputs of `task` in `members`; less the base when `less_base`.
  Gram(const MethodTask& task, VectorLayout layout, std::vector<size_t> members,
       bool less_base);

  void Observe(const InputTile& tile);
  // <member i, member j> of one vector.
  double At(int64_t vector, size_t i, size_t j) const;
  size_t members() const { return members_.size(); }
  int64_t vectors() const { return vectors_; }
  int64_t memory_bytes() const {
    return static_cast<int64_t>(sums_.size() * sizeof(double));
  }

 private:
  size_t PairIndex(size_t i, size_t j) const;
  // Elements from `position` on, each of its own vector.
  void AddColumns(const std::vector<const float*>& values, const float* base,
                  size_t position, size_t count);

  const VectorLayout layout_;
  const std::vector<size_t> members_;
  const std::optional<size_t> base_;
  const int64_t vectors_;
  const size_t pairs_;
  std::vector<double> sums_;  // [vector][pair]
};

}  // namespace cairn

#endif  // CAIRN_MERGE_METHOD_GRAM_H_
