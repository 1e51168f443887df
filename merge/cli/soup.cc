// cairn-soup: the mean of those models or adapters that a suite likes.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/cli/local_command.h"
#include "merge/cli/merge_run.h"
#include "merge/engine/model_source.h"
#include "merge/eval/apply_update.h"
#include "merge/eval/evaluate.h"
#include "merge/eval/greedy_soup.h"
#include "merge/model/load_model.h"
#include "merge/model/parameter_patch.h"
#include "merge/peft/adapter_effects.h"
#include "merge/tensor/compute.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

constexpr char kFooter[] =
    "Models, or adapters on a base, are scored by themselves on a split of the "
    "suite,\nand then from the best to the worst each is kept when the mean of "
    "those kept and\nit scores no worse (greedy soup, arXiv 2203.05482). OUT is "
    "the mean of those kept,\nwith merge-record.json beside it.\n\n"
    "Example:\n"
    "  cairn soup --model ./seed-1 --model ./seed-2 --model ./seed-3 --suite "
    "./prose ./soup\n"
    "  cairn soup --base ./base --adapter ./a --adapter ./b --suite ./prose "
    "./soup\n";

struct Flags : LocalFlags {
  std::string base;
  std::vector<std::string> models;
  std::vector<std::string> adapters;
  std::string suite;
  std::string split;
  std::string dtype = "float32";
  std::string device = "cpu";
  std::string out;

  const std::vector<std::string>& candidates() const {
    return base.empty() ? models : adapters;
  }
};

// A tensor of several models in place of the first's: their mean.
class MeanEffect : public TensorEffect {
 public:
  MeanEffect(std::vector<std::shared_ptr<const ModelSource>> models,
             std::string name)
      : models_(std::move(models)), name_(std::move(name)) {}

  absl::Status Apply(int64_t first, absl::Span<float> values) const override {
    std::vector<float> one(values.size());
    std::vector<char> raw;
    std::fill(values.begin(), values.end(), 0.0f);
    for (const auto& model : models_) {
      CAIRN_RETURN_IF_ERROR(model->Read(*model->Find(name_), first,
                                        absl::MakeSpan(one), raw));
      for (size_t i = 0; i < one.size(); ++i) values[i] += one[i];
    }
    for (float& value : values) value /= static_cast<float>(models_.size());
    return absl::OkStatus();
  }
  absl::Status AddChange(int64_t first, absl::Span<const float> base,
                         float weight, absl::Span<float> sum) const override {
    std::vector<float> mean(base.size());
    CAIRN_RETURN_IF_ERROR(Apply(first, absl::MakeSpan(mean)));
    for (size_t i = 0; i < mean.size(); ++i) {
      sum[i] += weight * (mean[i] - base[i]);
    }
    return absl::OkStatus();
  }
  int64_t memory_bytes() const override { return 0; }

 private:
  const std::vector<std::shared_ptr<const ModelSource>> models_;
  const std::string name_;
};

// Scores means of candidates on one model that stays loaded.
class SoupKitchen {
 public:
  static absl::StatusOr<std::unique_ptr<SoupKitchen>> Open(const Flags& flags) {
    auto out = std::unique_ptr<SoupKitchen>(new SoupKitchen(flags));
    CAIRN_RETURN_IF_ERROR(out->Load());
    return out;
  }

  const SuiteDescription& description() const { return suite_.description; }

  absl::StatusOr<double> Score(absl::Span<const size_t> members) {
    CAIRN_ASSIGN_OR_RETURN(const ModelEffects effects, EffectsOf(members));
    ParameterPatch patch(*model_);
    CAIRN_RETURN_IF_ERROR(ApplyEffects(effects, *frame_->checkpoint(),
                                       ThreadsOf(flags_), patch));
    CAIRN_ASSIGN_OR_RETURN(
        const SplitReport report,
        EvaluateTask(*model_, suite_, split_, *task_,
                     {.threads = ThreadsOf(flags_), .progress = nullptr}));
    return report.value;
  }

 private:
  explicit SoupKitchen(const Flags& flags) : flags_(flags) {}

  absl::Status Load() {
    CAIRN_ASSIGN_OR_RETURN(suite_, Suite::OpenDirectory(flags_.suite));
    CAIRN_ASSIGN_OR_RETURN(split_,
                           suite_.description.ChooseSplit(flags_.split));
    LoadOptions options{.threads = ThreadsOf(flags_)};
    CAIRN_ASSIGN_OR_RETURN(options.dtype, ParseArithmetic(flags_.dtype));
    CAIRN_ASSIGN_OR_RETURN(options.device, ParseDevice(flags_.device));
    if (!flags_.base.empty()) {
      CAIRN_ASSIGN_OR_RETURN(frame_, OpenSource(flags_.base));
    }
    for (const std::string& model : flags_.models) {
      CAIRN_ASSIGN_OR_RETURN(sources_.emplace_back(), OpenSource(model));
    }
    if (frame_ == nullptr) frame_ = sources_.front();
    CAIRN_ASSIGN_OR_RETURN(model_, LoadModel(*frame_->checkpoint(), options));
    CAIRN_ASSIGN_OR_RETURN(task_, OpenTask(suite_, split_, *model_));
    CAIRN_RETURN_IF_ERROR(CheckShapes());
    return flags_.base.empty() ? absl::OkStatus() : ShareWhatNoneChanges();
  }

  absl::Status ShareWhatNoneChanges() {
    std::vector<size_t> all(flags_.adapters.size());
    std::iota(all.begin(), all.end(), size_t{0});
    CAIRN_ASSIGN_OR_RETURN(const ModelEffects effects, EffectsOf(all));
    std::vector<std::string> changed;
    for (const auto& [name, effect] : effects.effects) changed.push_back(name);
    model_->ShareLayers(model_->LayersBefore(changed));
    return absl::OkStatus();
  }

  static absl::StatusOr<std::shared_ptr<const ModelSource>> OpenSource(
      const std::string& directory) {
    CAIRN_ASSIGN_OR_RETURN(Checkpoint opened, OpenModelDirectory(directory));
    CAIRN_ASSIGN_OR_RETURN(
        ModelSource source,
        ModelSource::Open(directory,
                          std::make_shared<Checkpoint>(std::move(opened))));
    return std::make_shared<const ModelSource>(std::move(source));
  }

  absl::Status CheckShapes() const {
    for (const auto& source : sources_) {
      for (const auto& [name, tensor] : frame_->tensors()) {
        const SourceTensor* other = source->Find(name);
        if (other != nullptr && other->spec.shape == tensor.spec.shape) {
          continue;
        }
        return ReasonedError(
            absl::StatusCode::kInvalidArgument, "SHAPE_MISMATCH",
            absl::StrCat("tensor ", name, " of ", frame_->label(), " is ",
                         other == nullptr ? "missing" : "of another shape",
                         " in ", source->label()),
            {{"tensor", name}});
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<ModelEffects> EffectsOf(
      absl::Span<const size_t> members) const {
    if (!flags_.base.empty()) {
      std::vector<WeightedAdapter> adapters;
      for (size_t member : members) {
        adapters.push_back(
            {flags_.adapters[member], 1.0 / static_cast<double>(members.size())});
      }
      CAIRN_ASSIGN_OR_RETURN(AdaptedModel adapted,
                             OpenAdapters(*frame_, std::move(adapters)));
      return std::move(adapted.effects);
    }
    std::vector<std::shared_ptr<const ModelSource>> models;
    for (size_t member : members) models.push_back(sources_[member]);
    ModelEffects effects;
    for (const auto& [name, parameter] : model_->parameters()) {
      const SourceTensor* tensor = frame_->Find(std::string(name));
      if (tensor == nullptr || !IsNumeric(tensor->spec.dtype)) continue;
      effects.effects[std::string(name)] =
          std::make_shared<MeanEffect>(models, std::string(name));
    }
    return effects;
  }

  const Flags& flags_;
  Suite suite_;
  std::string split_;
  std::shared_ptr<const ModelSource> frame_;  // what the model is loaded from
  std::vector<std::shared_ptr<const ModelSource>> sources_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Task> task_;
};

// The merge of those kept, as cairn merge would be asked for it.
MergeOrder OrderOf(const Flags& flags, const std::vector<size_t>& members) {
  MergeOrder order;
  order.directory = fs::current_path();
  if (!flags.base.empty()) {
    order.base = flags.base;
    for (size_t member : members) {
      order.adapters.push_back(
          {flags.adapters[member], 1.0 / static_cast<double>(members.size())});
    }
    return order;
  }
  order.recipe_label = "the soup";
  order.recipe = "merge_method: linear\nmodels:\n";
  for (size_t member : members) {
    absl::StrAppend(&order.recipe, "  - {model: ",
                    nlohmann::json(flags.models[member]).dump(),
                    ", parameters: {weight: 1}}\n");
  }
  return order;
}

void Tell(const Flags& flags, const SuiteDescription& suite,
          const std::vector<SoupTrial>& trials) {
  if (flags.json) {
    nlohmann::ordered_json json = {{"path", flags.out},
                                   {"metric", suite.metric}};
    for (const SoupTrial& trial : trials) {
      json["trials"].push_back(
          {{"candidate", flags.candidates()[trial.candidate]},
           {"alone", trial.alone},
           {"mixed", trial.mixed},
           {"kept", trial.is_kept}});
    }
    std::cout << json.dump(2) << "\n";
    return;
  }
  for (const SoupTrial& trial : trials) {
    std::cout << absl::StrFormat(
        "%s %s: %s %.6g alone, %.6g in the soup\n",
        trial.is_kept ? "kept    " : "left out",
        flags.candidates()[trial.candidate], suite.metric, trial.alone,
        trial.mixed);
  }
}

absl::Status Run(const Flags& flags) {
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<SoupKitchen> kitchen,
                         SoupKitchen::Open(flags));
  CAIRN_ASSIGN_OR_RETURN(
      const std::vector<SoupTrial> trials,
      CookGreedySoup(flags.candidates().size(),
                     kitchen->description().higher_is_better,
                     [&](absl::Span<const size_t> members) {
                       return kitchen->Score(members);
                     }));
  CAIRN_ASSIGN_OR_RETURN(
      MergeRun run, MergeRun::Plan(OrderOf(flags, MembersOf(trials)),
                                   {.threads = ThreadsOf(flags)}));
  CAIRN_RETURN_IF_ERROR(run.Execute(flags.out, flags, nullptr).status());
  Tell(flags, kitchen->description(), trials);
  return absl::OkStatus();
}

void CheckUsage(const Flags& flags) {
  if (flags.base.empty() == flags.models.empty() ||
      flags.base.empty() != flags.adapters.empty()) {
    throw CLI::ValidationError(
        "give --model several times, or --base and --adapter several times");
  }
  const auto& all = flags.candidates();
  if (all.size() < 2 ||
      std::set<std::string>(all.begin(), all.end()).size() != all.size()) {
    throw CLI::ValidationError("a soup has two candidates at least, all of "
                               "them different");
  }
}

int Main(int argc, char** argv) {
  CLI::App app("Averages the models or adapters that a suite likes.",
               "cairn soup");
  Flags flags;
  app.add_option("--model", flags.models, "candidate; repeat it")
      ->allow_extra_args(false);
  app.add_option("--base", flags.base, "base of the adapters");
  app.add_option("--adapter", flags.adapters,
                 "candidate on the base; repeat it")
      ->allow_extra_args(false);
  app.add_option("--suite", flags.suite, "directory with suite.yaml")
      ->required();
  app.add_option("--split", flags.split,
                 "split to score (default: the only one, else search)");
  app.add_option("--dtype", flags.dtype, "arithmetic: float32 or bfloat16")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->capture_default_str();
  app.add_option("--device", flags.device, "cpu or cuda:N")
      ->capture_default_str();
  app.add_option("out", flags.out, "output directory")->required();
  AddLocalFlags(app, flags);
  app.footer(kFooter);
  app.callback([&] { CheckUsage(flags); });
  InitCompute();
  return RunLocalCommand(app, argc, argv, flags, [&] { return Run(flags); });
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) { return cairn::Main(argc, argv); }
