#ifndef CAIRN_MERGE_WORKER_SUITE_SCORER_H_
#define CAIRN_MERGE_WORKER_SUITE_SCORER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cairn/v1/job.pb.h"
#include "google/protobuf/repeated_ptr_field.h"
#include "merge/eval/suite.h"
#include "merge/eval/task.h"
#include "merge/model/model.h"
#include "merge/worker/job_context.h"

namespace cairn {

// The suites of a job, read and checked once and scored with several models.
class SuiteScorer {
 public:
  using Suites = google::protobuf::RepeatedPtrField<v1::SuiteInput>;
  // Which suites: all, on the items that their specs name, or those whose spec
  // asks for scores of the base, whole.
  enum class Which { kAll, kBaseUnknown };

  // `suites` and `context` outlive it. `model` is any that will be scored:
  // every item is checked to fit it; it comes from `model_files`. `rounds`: how
  // often every suite will be scored, for progress.
  static absl::StatusOr<SuiteScorer> Open(const Suites& suites,
                                          const Model& model,
                                          const FileMap& model_files,
                                          int rounds,
                                          const JobContext& context);

  // True when Score() with kBaseUnknown has nothing to do.
  bool is_base_known() const;

  // Scores in the order of the spec. `what` is for progress.
  absl::StatusOr<std::vector<v1::SplitScores>> Score(const Model& model,
                                                     Which which,
                                                     absl::string_view what);

 private:
  struct Split {
    const v1::SuiteInput* input;
    std::shared_ptr<const Suite> suite;  // shared by its splits
    std::string split;
    std::unique_ptr<Task> task;
    std::unique_ptr<Task> part;  // of `task`, where only some items are asked
  };

  explicit SuiteScorer(const JobContext& context) : context_(context) {}
  absl::StatusOr<v1::SplitScores> ScoreSplit(const Model& model,
                                             const Split& split, Which which,
                                             absl::string_view what) const;

  const JobContext& context_;
  std::vector<Split> splits_;
  int64_t items_in_all_ = 0;
  int64_t items_done_ = 0;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_WORKER_SUITE_SCORER_H_
