#ifndef CAIRN_MERGE_STRATEGY_MERGE_STRATEGY_H_
#define CAIRN_MERGE_STRATEGY_MERGE_STRATEGY_H_

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace cairn {

// What a strategy may ask of the whole merge before the first element is
// combined.
class DeltaScan {
 public:
  virtual ~DeltaScan() = default;

  // Number of inputs.
  virtual size_t inputs() const = 0;
  // Elements of all numeric tensors of the head; what an input does not touch
  // counts as zero.
  virtual int64_t elements() const = 0;

  // Calls `visit` with every element that an input touches, in tiles, from
  // several threads at once and in no particular order. Only sums that do not
  // depend on the order may be made of it.
  using Visitor =
      std::function<void(size_t input, absl::Span<const float> values)>;
  virtual absl::Status ForEachTile(const Visitor& visit) = 0;
};

// One input's values of a tile.
struct TileDelta {
  size_t input = 0;
  absl::Span<const float> values;
};

// How several deltas become one. Elementwise: what comes out for an element
// depends on that element of the inputs and on what Prepare() saw. Inputs come
// in the order of their digests, so that nothing depends on who was first.
class MergeStrategy {
 public:
  virtual ~MergeStrategy() = default;

  // "task_arithmetic"
  virtual absl::string_view name() const = 0;
  // Parameters as they are recorded, defaults filled in.
  virtual const std::map<std::string, std::string>& parameters() const = 0;
  // Learns what it needs of the whole. Called once, before anything else.
  virtual absl::Status Prepare(DeltaScan& scan) = 0;
  // The final factor on each input's delta, as recorded.
  virtual std::vector<double> Coefficients() const = 0;
  // Combines the deltas that touch a tile into `out`, which is overwritten.
  // Thread-safe after Prepare().
  virtual void Combine(absl::Span<const TileDelta> deltas,
                       absl::Span<float> out) const = 0;
};

// Makes a strategy for as many inputs as there are `weights`, each a factor on
// an input's delta (1 unless somebody asked for another). INVALID_ARGUMENT for
// an unknown name or parameter, or a value out of range; the message lists
// what there is.
absl::StatusOr<std::unique_ptr<MergeStrategy>> MakeMergeStrategy(
    absl::string_view name,
    const std::map<std::string, std::string>& parameters,
    std::vector<double> weights);

}  // namespace cairn

#endif  // CAIRN_MERGE_STRATEGY_MERGE_STRATEGY_H_
