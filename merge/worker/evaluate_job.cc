#include "merge/worker/evaluate_job.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/status_macros.h"
#include "merge/model/load_model.h"
#include "merge/worker/model_patches.h"
#include "merge/worker/suite_scorer.h"

namespace cairn {
namespace {

using Which = SuiteScorer::Which;

void MoveInto(std::vector<v1::SplitScores> scores,
              google::protobuf::RepeatedPtrField<v1::SplitScores>& field) {
  for (v1::SplitScores& split : scores) *field.Add() = std::move(split);
}

// The model of the candidate side. It shares with `base` what is the same.
absl::StatusOr<std::unique_ptr<Model>> MakeCandidate(
    const v1::EvaluateSpec& spec, const JobContext& context,
    const JobWeights& base, const Model& base_model, std::string& digest) {
  std::unique_ptr<Model> model = base_model.ShallowCopy();
  if (spec.has_update()) {
    CAIRN_ASSIGN_OR_RETURN(JobUpdate update,
                           OpenJobUpdate(spec.update(), 0, context));
    CAIRN_RETURN_IF_ERROR(
        SetUpdated(update, base.checkpoint, context.threads, *model));
    return model;
  }
  CAIRN_ASSIGN_OR_RETURN(JobWeights weights,
                         OpenWeights(spec.candidate(), context));
  digest = weights.identity.digest;
  // Another configuration makes another model, and so do other tensors.
  const bool is_same_shape =
      weights.checkpoint.config_json() == base.checkpoint.config_json() &&
      weights.checkpoint.tensors().size() == base.checkpoint.tensors().size();
  if (!is_same_shape) {
    CAIRN_ASSIGN_OR_RETURN(LoadOptions options, LoadOptionsOf(spec, context));
    return LoadModel(weights.checkpoint, options);
  }
  CAIRN_RETURN_IF_ERROR(SetChanged(weights.checkpoint, weights.identity.tensors,
                                   base.identity.tensors, *model));
  return model;
}

}  // namespace

absl::StatusOr<v1::EvaluateResult> RunEvaluateJob(const v1::EvaluateSpec& spec,
                                                  const JobContext& context) {
  v1::EvaluateResult result;
  context.progress(0, "loading");
  CAIRN_ASSIGN_OR_RETURN(JobWeights base, OpenWeights(spec.base(), context));
  result.set_base_digest(base.identity.digest);
  CAIRN_ASSIGN_OR_RETURN(LoadOptions options, LoadOptionsOf(spec, context));
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<Model> model,
                         LoadModel(base.checkpoint, options));
  const bool has_candidate = spec.has_update() || spec.has_candidate();
  CAIRN_ASSIGN_OR_RETURN(
      SuiteScorer scorer,
      SuiteScorer::Open(spec.suites(), *model, base.checkpoint.files(),
                        has_candidate ? 2 : 1, context));
  CAIRN_ASSIGN_OR_RETURN(
      std::vector<v1::SplitScores> base_scores,
      scorer.Score(*model, has_candidate ? Which::kBaseUnknown : Which::kAll,
                   "the base"));
  MoveInto(std::move(base_scores), *result.mutable_base());
  if (!has_candidate) return result;

  std::string digest;
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<Model> candidate,
                         MakeCandidate(spec, context, base, *model, digest));
  model.reset();
  result.set_candidate_digest(digest);
  CAIRN_ASSIGN_OR_RETURN(
      std::vector<v1::SplitScores> scores,
      scorer.Score(*candidate, Which::kAll,
                   spec.has_update() ? "the update" : "the candidate"));
  MoveInto(std::move(scores), *result.mutable_candidate());
  return result;
}

}  // namespace cairn
