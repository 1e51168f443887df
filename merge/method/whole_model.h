#ifndef CAIRN_MERGE_METHOD_WHOLE_MODEL_H_
#define CAIRN_MERGE_METHOD_WHOLE_MODEL_H_

#include <cstddef>
#include <vector>

namespace cairn {

// What a merge knows of its inputs over all tensors together, for methods that
// choose by it. Inputs are numbered as MethodTask::Input::participant says.
struct WholeModel {
  size_t participants = 0;
  // <tau_i, tau_j>, [participants][participants].
  std::vector<double> products;
  // The magnitude from which on an element is kept, one a participant.
  std::vector<float> thresholds;
  // What a sum of kept elements that cancels out elects: the sign that most
  // elements elect, or 0 for nothing.
  int majority = 0;

  double Product(size_t i, size_t j) const {
    return products[i * participants + j];
  }
  // The products of task vectors that are multiplied by `factors`.
  void ScaleBy(const std::vector<double>& factors);
  double Norm(size_t i) const;
  double SquaredDistance(size_t i, size_t j) const;
  // 0 where one of the two is 0.
  double Cosine(size_t i, size_t j) const;
};

// Factors that bring every participant's task vector down to the length
// `most`, 1 for those that are no longer. 0: to the median of the lengths of
// those that are not 0.
std::vector<double> ClipFactors(const WholeModel& whole, double most);

}  // namespace cairn

#endif  // CAIRN_MERGE_METHOD_WHOLE_MODEL_H_
