#ifndef CAIRN_MERGE_CLI_MERGE_RUN_H_
#define CAIRN_MERGE_CLI_MERGE_RUN_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "merge/cli/local_command.h"
#include "merge/cli/merge_record_file.h"
#include "merge/engine/output_executor.h"
#include "merge/engine/output_plan.h"
#include "merge/recipe/recipe.h"
#include "merge/recipe/recipe_plan.h"
#include "merge/recipe/vocabulary_alignment.h"

namespace cairn {

inline constexpr char kRecordFile[] = "merge-record.json";

// One model to make: the last is the result, those before are for it.
struct MergeStage {
  std::string name;
  OutputPlan plan;
  OutputCost cost;
  // As later stages see it: as it is, and with its vocabulary aligned.
  std::vector<std::shared_ptr<ModelSource>> made;
  FileMap beside;  // files that come along: tokenizer, licence and so on
};

// A merge on this machine, planned whole before a byte is written.
class MergeRun {
 public:
  // Opens headers only. A device of the options outlives the run.
  // INVALID_ARGUMENT for a recipe that cannot be read or does not fit the
  // models, NOT_FOUND for what is not there, DATA_LOSS for a damaged file.
  static absl::StatusOr<MergeRun> Plan(MergeOrder order,
                                       const OutputOptions& options);

  const std::vector<MergeStage>& stages() const { return stages_; }
  const std::vector<std::string>& warnings() const { return warnings_; }

  // Makes the result in OUT.partial, which becomes `out` when it is whole. An
  // interrupted run leaves OUT.partial, from which the same call goes on; any
  // other failure leaves nothing. ALREADY_EXISTS when `out` is not empty. With
  // `expected`, DATA_LOSS unless inputs and result are those of the record.
  absl::StatusOr<MergeRecordFile> Execute(const std::string& out,
                                          const LocalFlags& flags,
                                          const MergeRecordFile* expected);

 private:
  absl::Status PlanDocuments(const OutputOptions& options);
  absl::Status PlanDocument(size_t document, const OutputOptions& options);
  absl::Status PlanBeside(const Recipe& recipe, const AlignedModels& aligned,
                          const SourceOpener& open, MergeStage& stage);
  absl::Status PlanAdapters(const OutputOptions& options);
  absl::StatusOr<std::shared_ptr<ModelSource>> OpenModel(
      const std::string& model, const OutputOptions& options);
  absl::StatusOr<OutputResult> RunStage(MergeStage& stage,
                                        const std::string& directory,
                                        const LocalFlags& flags);
  std::string AbsolutePath(const std::string& path) const;

  MergeOrder order_;
  TileDevice* device_ = nullptr;
  std::vector<Recipe> documents_;
  std::vector<int> document_state_;  // 0 unplanned, 1 under way, 2 planned
  std::vector<MergeStage> stages_;
  std::vector<std::string> warnings_;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_CLI_MERGE_RUN_H_
