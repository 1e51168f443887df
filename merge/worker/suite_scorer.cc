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

absl::StatusOr<SuiteScorer> SuiteScorer::Open(const Suites& suites,
                                              const Model& model, int rounds,
                                              const JobContext& context) {
  SuiteScorer scorer(context);
  for (int i = 0; i < suites.size(); ++i) {
    const v1::SuiteInput& input = suites[i];
    auto opened =
        Suite::OpenDirectory(context.layout.Suite(static_cast<size_t>(i)));
    if (!opened.ok()) return Annotate(opened.status(), input.suite());
    auto suite = std::make_shared<const Suite>(*std::move(opened));
    for (const std::string& split : input.splits()) {
      auto task = OpenTask(*suite, split, model);
      if (!task.ok()) return Annotate(task.status(), input.suite());
      CAIRN_RETURN_IF_ERROR(Annotate((*task)->CheckFits(model), input.suite()));
      scorer.items_in_all_ += (*task)->size() * rounds;
      scorer.splits_.push_back({.input = &input,
                                .suite = suite,
                                .split = split,
                                .task = *std::move(task)});
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
                             ScoreSplit(model, split, what));
    }
    items_done_ += split.task->size();
  }
  return all;
}

absl::StatusOr<v1::SplitScores> SuiteScorer::ScoreSplit(
    const Model& model, const Split& split, absl::string_view what) const {
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
      EvaluateTask(model, *split.suite, split.split, *split.task,
                   {.threads = context_.threads, .progress = progress});
  if (!report.ok()) return Annotate(report.status(), split.input->suite());
  v1::SplitScores scores;
  scores.set_suite(split.input->suite());
  scores.set_suite_version(split.input->version());
  scores.set_split(split.split);
  scores.set_metric(report->metric);
  scores.set_value(report->value);
  bool has_groups = false;
  for (const ItemScore& item : report->items) {
    const bool is_graded = item.is_correct.has_value();
    scores.add_scores(is_graded ? (*item.is_correct ? 1.0 : 0.0)
                                : item.logprob_sum);
    scores.add_tokens(is_graded ? 1 : item.tokens);
    has_groups |= !item.group.empty();
  }
  if (has_groups) {
    for (const ItemScore& item : report->items) scores.add_groups(item.group);
  }
  return scores;
}

}  // namespace cairn
