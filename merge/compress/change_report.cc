#include "merge/compress/change_report.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <tuple>

#include "core/base/status_macros.h"
#include "merge/delta/update_delta.h"
#include "merge/engine/piece_runner.h"

namespace cairn {
namespace {

constexpr int64_t kTileElements = 1 << 16;

absl::StatusOr<TensorFidelity> Measure(const ChangeSource& source,
                                       const Update& update,
                                       const Checkpoint& base,
                                       const TensorSpec& tensor) {
  TensorFidelity out{.tensor = tensor.name, .elements = tensor.elements()};
  CAIRN_ASSIGN_OR_RETURN(const auto wanted, source.Open(tensor));
  std::unique_ptr<TensorDelta> given;
  if (update.Find(tensor.name) != nullptr) {
    CAIRN_ASSIGN_OR_RETURN(given, OpenTensorDelta(update, base, tensor.name));
  }
  std::vector<float> want, got;
  double norm = 0, kept_norm = 0, error = 0;
  for (int64_t first = 0; first < out.elements; first += kTileElements) {
    want.resize(
        static_cast<size_t>(std::min(kTileElements, out.elements - first)));
    got.assign(want.size(), 0.0F);
    CAIRN_RETURN_IF_ERROR(wanted->Read(first, absl::MakeSpan(want)));
    if (given != nullptr) {
      CAIRN_RETURN_IF_ERROR(given->Read(first, absl::MakeSpan(got)));
    }
    for (size_t i = 0; i < want.size(); ++i) {
      const double w = want[i], g = got[i];
      out.changed += w != 0;
      out.kept += g != 0;
      norm += w * w;
      kept_norm += g * g;
      error += (g - w) * (g - w);
      out.product += g * w;
    }
  }
  out.norm = std::sqrt(norm);
  out.kept_norm = std::sqrt(kept_norm);
  out.error = std::sqrt(error);
  return out;
}

}  // namespace

absl::StatusOr<std::vector<TensorFidelity>> MeasureFidelity(
    const ChangeSource& source, const Update& update, const Checkpoint& base,
    int threads) {
  const std::vector<TensorSpec>& tensors = source.tensors();
  std::vector<TensorFidelity> all(tensors.size());
  CAIRN_RETURN_IF_ERROR(
      RunPieces(threads, static_cast<int64_t>(tensors.size()),
                [&](int /*worker*/, int64_t piece) -> absl::Status {
                  const auto i = static_cast<size_t>(piece);
                  CAIRN_ASSIGN_OR_RETURN(
                      all[i], Measure(source, update, base, tensors[i]));
                  return absl::OkStatus();
                }));
  std::vector<TensorFidelity> changed;
  std::copy_if(all.begin(), all.end(), std::back_inserter(changed),
               [](const TensorFidelity& t) { return t.changed > 0; });
  std::sort(changed.begin(), changed.end(),
            [](const TensorFidelity& a, const TensorFidelity& b) {
              const double left = -a.relative_error();
              const double right = -b.relative_error();
              return std::tie(left, a.tensor) < std::tie(right, b.tensor);
            });
  return changed;
}

}  // namespace cairn
