#include "merge/worker/suite_scorer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/mutex.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/eval/evaluate.h"
#include "merge/eval/suite.h"

namespace cairn {
namespace {

// Some items of a task, as a task.
class PartTask : public Task {
 public:
  PartTask(const Task& whole, std::vector<int64_t> items)
      : whole_(whole), items_(std::move(items)) {}
  int64_t size() const override { return static_cast<int64_t>(items_.size()); }
  absl::Status CheckFits(const Model& model) const override {
    return whole_.CheckFits(model);
  }
  int64_t Cost(int64_t item) const override { return whole_.Cost(At(item)); }
  absl::StatusOr<at::Tensor> Prepare(const Model& model) const override {
    return whole_.Prepare(model);
  }
  absl::StatusOr<ItemScore> Score(const Model& model,
                                  const at::Tensor& prepared,
                                  int64_t item) const override {
    return whole_.Score(model, prepared, At(item));
  }
  std::map<std::string, double> Metrics(
      absl::Span<const ItemScore> scores) const override {
    return whole_.Metrics(scores);
  }

 private:
  int64_t At(int64_t item) const { return items_[static_cast<size_t>(item)]; }

  const Task& whole_;
  const std::vector<int64_t> items_;
};

absl::StatusOr<std::unique_ptr<Task>> OpenPart(const v1::SuiteInput& input,
                                               const Task& whole) {
  if (input.items().empty()) return std::unique_ptr<Task>();
  for (const int32_t item : input.items()) {
    if (item < 0 || item >= whole.size() || input.splits_size() != 1) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the job asks for item ", item, " of ", input.suite(), ", which has ",
          whole.size(), " items and ", input.splits_size(), " splits"));
    }
  }
  return std::make_unique<PartTask>(
      whole, std::vector<int64_t>(input.items().begin(), input.items().end()));
}

}  // namespace

absl::StatusOr<SuiteScorer> SuiteScorer::Open(const Suites& suites,
                                              const Model& model,
                                              const FileMap& model_files,
                                              int rounds,
                                              const JobContext& context) {
  SuiteScorer scorer(context);
  for (int i = 0; i < suites.size(); ++i) {
    const v1::SuiteInput& input = suites[i];
    auto opened =
        Suite::OpenDirectory(context.layout.Suite(static_cast<size_t>(i)));
    if (!opened.ok()) return Annotate(opened.status(), input.suite());
    auto suite = std::make_shared<const Suite>(*std::move(opened));
    for (const std::string& split : input.splits()) {
      auto task = OpenTask(*suite, split, model, model_files);
      if (!task.ok()) return Annotate(task.status(), input.suite());
      CAIRN_RETURN_IF_ERROR(Annotate((*task)->CheckFits(model), input.suite()));
      CAIRN_ASSIGN_OR_RETURN(auto part, OpenPart(input, **task));
      scorer.items_in_all_ += (*task)->size() * rounds;
      scorer.splits_.push_back({.input = &input,
                                .suite = suite,
                                .split = split,
                                .task = *std::move(task),
                                .part = std::move(part)});
    }
  }
  return scorer;
}

bool SuiteScorer::is_base_known() const {
  return std::none_of(splits_.begin(), splits_.end(), [](const Split& split) {
    return split.input->score_base();
  });
}

absl::StatusOr<std::vector<v1::SplitScores>> SuiteScorer::Score(
    const Model& model, Which which, absl::string_view what) {
  std::vector<v1::SplitScores> all;
  for (const Split& split : splits_) {
    if (which == Which::kAll || split.input->score_base()) {
      CAIRN_ASSIGN_OR_RETURN(all.emplace_back(),
                             ScoreSplit(model, split, which, what));
    }
    items_done_ += split.task->size();
  }
  return all;
}

absl::StatusOr<v1::SplitScores> SuiteScorer::ScoreSplit(
    const Model& model, const Split& split, Which which,
    absl::string_view what) const {
  // The base is scored whole, so that no other job has to do it again.
  const bool is_part = which == Which::kAll && split.part != nullptr;
  Mutex mutex;
  const std::string text = absl::StrCat(
      "scoring ", what, " on ", split.input->suite(), ", ", split.split);
  auto progress = [&](int64_t done, int64_t) {
    MutexLock lock(mutex);
    context_.progress(static_cast<double>(items_done_ + done) /
                          static_cast<double>(items_in_all_),
                      text);
  };
  auto report =
      EvaluateTask(model, *split.suite, split.split,
                   is_part ? *split.part : *split.task,
                   {.threads = context_.threads, .progress = progress});
  if (!report.ok()) return Annotate(report.status(), split.input->suite());
  v1::SplitScores scores;
  scores.set_suite(split.input->suite());
  scores.set_suite_version(split.input->version());
  scores.set_split(split.split);
  scores.set_metric(report->metric);
  scores.set_value(report->value);
  if (is_part) *scores.mutable_items() = split.input->items();
  bool has_groups = false;
  for (const ItemScore& item : report->items) {
    const bool is_graded = item.is_correct.has_value();
    scores.add_scores(item.points.has_value() ? *item.points
                      : is_graded             ? (*item.is_correct ? 1.0 : 0.0)
                                              : item.logprob_sum);
    scores.add_tokens(is_graded || item.points.has_value() ? 1 : item.tokens);
    has_groups |= !item.group.empty();
  }
  if (has_groups) {
    for (const ItemScore& item : report->items) scores.add_groups(item.group);
  }
  return scores;
}

}  // namespace cairn
