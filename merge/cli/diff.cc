// cairn-diff: two models, or two changes of one base, tensor by tensor.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/tensor/dtype.h"
#include "merge/cli/local_command.h"
#include "merge/compress/change_comparison.h"
#include "merge/compress/change_source.h"
#include "merge/engine/piece_runner.h"

namespace cairn {
namespace {

using Json = nlohmann::ordered_json;

struct Flags : LocalFlags {
  std::string base;
  std::string before;
  std::string after;
  int64_t directions = 8;
};

// A tensor of either side.
struct Item {
  std::string name;
  // "changed", "same", "added", "removed", "reshaped"; with a base "both" and
  // what only one side changes.
  std::string state;
  TensorSpec spec;
  TensorComparison compared = {};

  bool is_compared() const { return state == "changed" || state == "both"; }
  // Models: how far apart beside the size; changes: how far from agreeing.
  double badness(bool is_change) const {
    if (!is_compared()) return -1;
    if (is_change) return 1 - compared.cosine();
    return compared.norm_difference / std::max(compared.norm_a, 1e-30);
  }
};

bool IsAdapter(const std::string& directory) {
  std::error_code error;
  return std::filesystem::exists(directory + "/" + kAdapterConfigFile, error) ||
         std::filesystem::exists(directory + "/" + kUpdateFile, error);
}

// One side: a checkpoint's weights or, with a base, the change of what stands
// in a directory.
struct Side {
  std::shared_ptr<Checkpoint> checkpoint;  // null for an adapter
  std::unique_ptr<ChangeSource> source;
};

absl::StatusOr<Side> OpenSide(const std::string& directory,
                              const std::shared_ptr<Checkpoint>& base,
                              const std::string& base_directory) {
  Side side;
  if (IsAdapter(directory)) {
    if (base == nullptr) {
      return absl::InvalidArgumentError(
          directory + " is an adapter or update: name its base with --base");
    }
    CAIRN_ASSIGN_OR_RETURN(side.source,
                           MakeAdapterChange(base, base_directory, directory));
    return side;
  }
  CAIRN_ASSIGN_OR_RETURN(Checkpoint opened, OpenLocalCheckpoint(directory));
  side.checkpoint = std::make_shared<Checkpoint>(std::move(opened));
  if (base == nullptr) {
    side.source = MakeWeights(*side.checkpoint);
  } else {
    CAIRN_ASSIGN_OR_RETURN(side.source,
                           MakeCheckpointChange(*base, *side.checkpoint));
  }
  return side;
}

// By name; of checkpoints also what holds no numbers.
std::vector<TensorSpec> TensorsOf(const Side& side, bool is_change) {
  if (is_change) return side.source->tensors();
  return {side.checkpoint->tensors().begin(), side.checkpoint->tensors().end()};
}

const TensorSpec* Find(const std::vector<TensorSpec>& tensors,
                       const std::string& name) {
  const auto found = std::lower_bound(
      tensors.begin(), tensors.end(), name,
      [](const TensorSpec& t, const std::string& key) { return t.name < key; });
  return found == tensors.end() || found->name != name ? nullptr : &*found;
}

// All tensors of both sides, those to compare without a state.
std::vector<Item> Pair(const Side& a, const Side& b, bool is_change) {
  std::vector<Item> items;
  const std::vector<TensorSpec> first = TensorsOf(a, is_change);
  const std::vector<TensorSpec> second = TensorsOf(b, is_change);
  for (const TensorSpec& tensor : first) {
    Item& item = items.emplace_back();
    item.name = tensor.name;
    item.spec = tensor;
    const TensorSpec* other = Find(second, tensor.name);
    if (other == nullptr) {
      item.state = is_change ? "only in the first" : "removed";
    } else if (!IsNumeric(tensor.dtype) || !IsNumeric(other->dtype)) {
      const bool is_like =
          other->shape == tensor.shape && other->dtype == tensor.dtype;
      item.state = is_like ? "same" : "reshaped";
    } else if (other->shape != tensor.shape) {
      item.state = "reshaped";
    }
  }
  for (const TensorSpec& tensor : second) {
    if (Find(first, tensor.name) != nullptr) continue;
    items.push_back({.name = tensor.name,
                     .state = is_change ? "only in the second" : "added",
                     .spec = tensor});
  }
  return items;
}

absl::Status CompareAll(const Side& a, const Side& b, bool is_change,
                        const Flags& flags, std::vector<Item>& items) {
  return RunPieces(
      ThreadsOf(flags), static_cast<int64_t>(items.size()),
      [&](int /*worker*/, int64_t piece) -> absl::Status {
        Item& item = items[static_cast<size_t>(piece)];
        if (!item.state.empty()) return absl::OkStatus();
        CAIRN_ASSIGN_OR_RETURN(const auto left, a.source->Open(item.spec));
        CAIRN_ASSIGN_OR_RETURN(const auto right, b.source->Open(item.spec));
        CAIRN_ASSIGN_OR_RETURN(
            item.compared,
            CompareTensors(*left, *right, item.spec, flags.directions));
        const bool is_zero =
            item.compared.norm_a == 0 && item.compared.norm_b == 0;
        if (is_change) {
          item.state = is_zero ? "same" : "both";
        } else {
          item.state = item.compared.differing > 0 ? "changed" : "same";
        }
        return absl::OkStatus();
      });
}

Json ToJson(const Item& item, bool is_change) {
  Json json = {{"name", item.name}, {"state", item.state}};
  if (!item.is_compared()) return json;
  const TensorComparison& c = item.compared;
  json["changedFraction"] = c.differing_share();
  json[is_change ? "normFirst" : "normBefore"] = c.norm_a;
  json[is_change ? "normSecond" : "normAfter"] = c.norm_b;
  json["normDelta"] = c.norm_difference;
  json["cosine"] = c.cosine();
  json["signConflicts"] = c.opposed_share();
  if (c.overlap.has_value()) json["subspaceOverlap"] = *c.overlap;
  return json;
}

void Print(const std::vector<Item>& items, bool is_change) {
  std::cout << absl::StrFormat("%-52s %8s %10s %10s %10s %9s %7s %7s\n",
                               is_change ? "changes" : "tensor", "differ",
                               is_change ? "|first|" : "|before|",
                               is_change ? "|second|" : "|after|",
                               "|difference|", "cosine", "signs", "overlap");
  for (const Item& item : items) {
    if (!item.is_compared()) {
      std::cout << absl::StrFormat("%-52s %s\n", item.name, item.state);
      continue;
    }
    const TensorComparison& c = item.compared;
    std::cout << absl::StrFormat(
        "%-52s %6.2f %% %10.4g %10.4g %10.4g %9.6f %5.1f %% %7s\n", item.name,
        100 * c.differing_share(), c.norm_a, c.norm_b, c.norm_difference,
        c.cosine(), 100 * c.opposed_share(),
        c.overlap.has_value() ? absl::StrFormat("%.3f", *c.overlap) : "-");
  }
}

absl::Status Run(const Flags& flags) {
  std::shared_ptr<Checkpoint> base;
  if (!flags.base.empty()) {
    CAIRN_ASSIGN_OR_RETURN(Checkpoint opened, OpenLocalCheckpoint(flags.base));
    base = std::make_shared<Checkpoint>(std::move(opened));
  }
  const bool is_change = base != nullptr;
  const auto open = [&](const std::string& directory) {
    auto side = OpenSide(directory, base, flags.base);
    if (!side.ok()) return absl::StatusOr<Side>(LocalFault(side.status()));
    return side;
  };
  CAIRN_ASSIGN_OR_RETURN(const Side a, open(flags.before));
  CAIRN_ASSIGN_OR_RETURN(const Side b, open(flags.after));
  std::vector<Item> items = Pair(a, b, is_change);
  CAIRN_RETURN_IF_ERROR(CompareAll(a, b, is_change, flags, items));
  items.erase(
      std::remove_if(items.begin(), items.end(),
                     [](const Item& item) { return item.state == "same"; }),
      items.end());
  std::stable_sort(items.begin(), items.end(),
                   [&](const Item& left, const Item& right) {
                     return left.badness(is_change) > right.badness(is_change);
                   });
  if (!flags.json) {
    Print(items, is_change);
    return absl::OkStatus();
  }
  Json json = {{"items", Json::array()}};
  for (const Item& item : items) {
    json["items"].push_back(ToJson(item, is_change));
  }
  std::cout << json.dump(2) << "\n";
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  CLI::App app(
      "Compares two models, or two changes of one base, tensor by tensor, "
      "worst first: norms, elements that differ, cosine, opposed signs, and "
      "how "
      "much of their leading singular directions they share.",
      "cairn diff");
  Flags flags;
  app.add_option(
         "before", flags.before,
         "Hugging Face directory; with --base also an adapter or update")
      ->required();
  app.add_option("after", flags.after, "the same")->required();
  app.add_option("--base", flags.base,
                 "compare what both change of this base, not the weights");
  app.add_option("--directions", flags.directions,
                 "singular directions whose overlap is measured; 0: none")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  AddLocalFlags(app, flags);
  app.footer(
      "Examples:\n  cairn diff ./before ./after\n"
      "  cairn diff --base ./base ./adapter-a ./adapter-b\n");
  return RunLocalCommand(app, argc, argv, flags, [&] { return Run(flags); });
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) { return cairn::Main(argc, argv); }
