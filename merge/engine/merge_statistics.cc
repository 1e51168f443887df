#include "merge/engine/merge_statistics.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/update/update_statistics.h"

namespace cairn {
namespace {

bool Wants(const MethodSpec& method, MethodParameter::Kind kind) {
  return std::any_of(
      method.parameters.begin(), method.parameters.end(),
      [&](const MethodParameter& parameter) { return parameter.kind == kind; });
}

// A symmetric matrix of which the lower half is held, row after row.
class HalfMatrix : public WholeTensor {
 public:
  HalfMatrix(int64_t size, std::vector<float> half)
      : shape_({size, size}), half_(std::move(half)) {}

  const std::vector<int64_t>& shape() const override { return shape_; }
  absl::Status Read(int64_t first, absl::Span<float> out) const override {
    // Of a plan, which looks at the shape alone.
    if (half_.empty()) return absl::FailedPreconditionError("not read yet");
    for (float& value : out) {
      const int64_t row = first / shape_[0], column = first % shape_[0];
      const int64_t low = std::max(row, column), high = std::min(row, column);
      value = half_[static_cast<size_t>(low * (low + 1) / 2 + high)];
      ++first;
    }
    return absl::OkStatus();
  }

 private:
  const std::vector<int64_t> shape_;
  const std::vector<float> half_;
};

absl::Status Lacks(const MergeInput& input, const PlannedTensor& planned) {
  return ReasonedError(
      absl::StatusCode::kInvalidArgument, "UNSUPPORTED",
      absl::StrCat(input.contribution, " brings no Fisher diagonal of ",
                   planned.tensor->name, " in ", kStatisticsFile,
                   ", which strategy fisher weighs its change by"),
      {{"contribution", input.contribution},
       {"tensor", planned.tensor->name}});
}

}  // namespace

bool WantsFisher(const MethodSpec& method) {
  return Wants(method, MethodParameter::Kind::kFisherFile);
}

absl::Status AddStatistics(const MergePlan& plan, const PlannedTensor& planned,
                           const MethodSpec& method,
                           const std::vector<size_t>& participants,
                           MethodTask& task, int64_t* bytes) {
  const std::string& name = planned.tensor->name;
  if (WantsFisher(method)) {
    for (size_t k = 0; k < participants.size(); ++k) {
      const MergeInput& input = plan.inputs[participants[k]];
      const UpdateStatistics* statistics = input.update->statistics();
      if (statistics == nullptr || !statistics->HasFisher(name)) {
        return Lacks(input, planned);
      }
      task.inputs.push_back({.fisher_of = k + 1});
    }
  }
  if (!Wants(method, MethodParameter::Kind::kGramFile)) {
    return absl::OkStatus();
  }
  for (size_t k = 0; k < participants.size(); ++k) {
    const MergeInput& input = plan.inputs[participants[k]];
    const UpdateStatistics* statistics = input.update->statistics();
    const std::optional<int64_t> size =
        statistics == nullptr ? std::nullopt : statistics->GramSize(name);
    if (!size.has_value()) continue;
    std::vector<float> half;
    if (bytes != nullptr) {
      *bytes += *size * (*size + 1) / 2 * static_cast<int64_t>(sizeof(float));
    } else {
      CAIRN_ASSIGN_OR_RETURN(half, statistics->ReadGram(name));
    }
    task.inputs[k + 1].gram =
        std::make_shared<HalfMatrix>(*size, std::move(half));
  }
  return absl::OkStatus();
}

absl::Status ReadFisher(const MergeInput& input, const PlannedTensor& planned,
                        int64_t first, absl::Span<float> out) {
  const std::vector<int64_t>& shape = planned.tensor->shape;
  const int64_t rows = shape.empty() ? 1 : std::max<int64_t>(1, shape[0]);
  return input.update->statistics()->ReadFisher(
      planned.tensor->name, first, planned.tensor->elements() / rows, out);
}

}  // namespace cairn
