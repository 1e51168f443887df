// cairn-diff: how two checkpoints differ, tensor by tensor.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/tensor/dtype.h"
#include "merge/cli/local_command.h"

namespace cairn {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kTileElements = 1 << 16;

struct Flags : LocalFlags {
  std::string before;
  std::string after;
};

// Sums over the elements of a tensor in both checkpoints.
struct Difference {
  int64_t elements = 0;
  int64_t changed = 0;
  double before_squared = 0;
  double after_squared = 0;
  double product = 0;
  double delta_squared = 0;

  void Add(absl::Span<const float> before, absl::Span<const float> after) {
    for (size_t i = 0; i < before.size(); ++i) {
      const auto b = static_cast<double>(before[i]);
      const auto a = static_cast<double>(after[i]);
      changed += before[i] != after[i];
      before_squared += b * b;
      after_squared += a * a;
      product += a * b;
      delta_squared += (a - b) * (a - b);
    }
    elements += static_cast<int64_t>(before.size());
  }
};

absl::StatusOr<Difference> Compare(const Checkpoint& before,
                                   const Checkpoint& after,
                                   const CheckpointTensor& tensor) {
  Difference difference;
  std::vector<float> b, a;
  for (int64_t first = 0; first < tensor.elements(); first += kTileElements) {
    const auto count =
        static_cast<size_t>(std::min(kTileElements, tensor.elements() - first));
    b.resize(count);
    a.resize(count);
    CAIRN_RETURN_IF_ERROR(
        before.ReadFloats(tensor.name, first, absl::MakeSpan(b)));
    CAIRN_RETURN_IF_ERROR(
        after.ReadFloats(tensor.name, first, absl::MakeSpan(a)));
    difference.Add(b, a);
  }
  return difference;
}

Json DifferenceJson(const std::string& name, const Difference& d) {
  const double norms = std::sqrt(d.before_squared * d.after_squared);
  Json json = {{"name", name}, {"state", "changed"}};
  json["changedFraction"] =
      static_cast<double>(d.changed) / static_cast<double>(d.elements);
  json["normBefore"] = std::sqrt(d.before_squared);
  json["normDelta"] = std::sqrt(d.delta_squared);
  json["cosine"] = norms > 0 ? d.product / norms : 0.0;
  return json;
}

absl::StatusOr<Json> CompareAll(const Checkpoint& before,
                                const Checkpoint& after) {
  Json items = Json::array();
  for (const CheckpointTensor& tensor : before.tensors()) {
    const CheckpointTensor* other = after.Find(tensor.name);
    if (other == nullptr) {
      items.push_back({{"name", tensor.name}, {"state", "removed"}});
    } else if (other->shape != tensor.shape || !IsNumeric(tensor.dtype) ||
               !IsNumeric(other->dtype)) {
      if (other->shape != tensor.shape || other->dtype != tensor.dtype) {
        items.push_back({{"name", tensor.name}, {"state", "reshaped"}});
      }
    } else {
      CAIRN_ASSIGN_OR_RETURN(Difference difference,
                             Compare(before, after, tensor));
      if (difference.changed > 0) {
        items.push_back(DifferenceJson(tensor.name, difference));
      }
    }
  }
  for (const CheckpointTensor& tensor : after.tensors()) {
    if (before.Find(tensor.name) == nullptr) {
      items.push_back({{"name", tensor.name}, {"state", "added"}});
    }
  }
  return items;
}

absl::Status Run(const Flags& flags) {
  CAIRN_ASSIGN_OR_RETURN(Checkpoint before, OpenLocalCheckpoint(flags.before));
  CAIRN_ASSIGN_OR_RETURN(Checkpoint after, OpenLocalCheckpoint(flags.after));
  CAIRN_ASSIGN_OR_RETURN(Json items, CompareAll(before, after));
  if (flags.json) {
    std::cout << Json{{"items", items}}.dump(2) << "\n";
    return absl::OkStatus();
  }
  for (const Json& item : items) {
    std::cout << absl::StrFormat("%-60s %s", item["name"].get<std::string>(),
                                 item["state"].get<std::string>());
    if (item.contains("cosine")) {
      std::cout << absl::StrFormat(
          "  %6.2f %%  |d|/|W| %.3g  cos %.6f",
          100 * item["changedFraction"].get<double>(),
          item["normDelta"].get<double>() /
              std::max(item["normBefore"].get<double>(), 1e-30),
          item["cosine"].get<double>());
    }
    std::cout << "\n";
  }
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  CLI::App app("Compares two checkpoints tensor by tensor.", "cairn diff");
  Flags flags;
  app.add_option("before", flags.before, "Hugging Face directory")->required();
  app.add_option("after", flags.after, "Hugging Face directory")->required();
  AddLocalFlags(app, flags);
  app.footer("Example:\n  cairn diff ./before ./after\n");
  return RunLocalCommand(app, argc, argv, flags, [&] { return Run(flags); });
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) { return cairn::Main(argc, argv); }
