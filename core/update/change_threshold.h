#ifndef CAIRN_CORE_UPDATE_CHANGE_THRESHOLD_H_
#define CAIRN_CORE_UPDATE_CHANGE_THRESHOLD_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace cairn {

// Selects the k largest of a stream of non-negative floats that is read
// several times over, exactly and in constant memory: two passes count the
// values by the upper and then by the lower half of their bits, which order
// as the values do. Of equal values the earlier are kept.
class ChangeThreshold {
 public:
  explicit ChangeThreshold(int64_t kept);

  // Passes: Count() everything, then EndPass(), until done(). Zeros do not
  // count.
  bool done() const { return pass_ == kPasses; }
  void Count(absl::Span<const float> values);
  // Adds what another one, for the same number, counted in this pass.
  void Add(const ChangeThreshold& other);
  void EndPass();

  // False before the first pass has ended: everything is kept.
  bool is_set() const { return pass_ > 0; }
  // Whether a value is among the k largest. To be asked once for each value
  // that is not zero, in the order of the stream.
  bool Keep(float value);
  // Whether a value is the smallest that is kept, so that Keep() depends on
  // how many there were of it before.
  bool IsLeast(float value) const;
  // The same for what comes in the stream after so many of the least.
  ChangeThreshold After(int64_t least) const;

 private:
  static constexpr int kPasses = 2;

  // Values above the bin that is being split, and those still to be found
  // within it.
  int64_t wanted_;
  int pass_ = 0;
  uint32_t threshold_ = 0;
  std::vector<int64_t> bins_;
};

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_CHANGE_THRESHOLD_H_
