#ifndef CAIRN_MERGE_WORKER_JOB_CONTEXT_H_
#define CAIRN_MERGE_WORKER_JOB_CONTEXT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cairn/v1/job.pb.h"
#include "core/tensor/checkpoint.h"
#include "core/update/update.h"
#include "merge/engine/merge_plan.h"
#include "merge/engine/model_identity.h"
#include "merge/worker/job_layout.h"

namespace cairn {

// What a job process has been given.
struct JobContext {
  JobLayout layout;
  // "cpu", "cuda:0"
  std::string device = "cpu";
  int threads = 1;
  int64_t memory_bytes = 0;
  std::string device_class;
  // Told how far the job is; from one thread at a time.
  std::function<void(double fraction, absl::string_view text)> progress;
};

// Weights that a job starts from, checked against the digest in the spec.
struct JobWeights {
  Checkpoint checkpoint;
  ModelIdentity identity;
};

// Opens published weights, or those of a candidate: the files of its release
// with tensors replaced by blobs. INTERNAL when the worker's copy is not what
// the spec names.
absl::StatusOr<JobWeights> OpenWeights(const v1::ModelInput& input,
                                       const JobContext& context);

// An update and the release that it was made on.
struct JobUpdate {
  std::unique_ptr<Update> update;
  std::unique_ptr<Checkpoint> base;
};

// Opens the n-th update of a spec.
absl::StatusOr<JobUpdate> OpenJobUpdate(const v1::UpdateInput& input,
                                        size_t index,
                                        const JobContext& context);

// The updates of a spec as inputs of a merge; they point into `updates`.
template <typename Inputs>
std::vector<MergeInput> MergeInputsOf(const Inputs& inputs,
                                      const std::vector<JobUpdate>& updates) {
  std::vector<MergeInput> merged;
  for (size_t i = 0; i < updates.size(); ++i) {
    const v1::UpdateInput& input = inputs[static_cast<int>(i)];
    merged.push_back({.contribution = input.contribution(),
                      .digest = input.digest(),
                      .base_digest = input.base().digest(),
                      .update = updates[i].update.get(),
                      .base = updates[i].base.get()});
  }
  return merged;
}

}  // namespace cairn

#endif  // CAIRN_MERGE_WORKER_JOB_CONTEXT_H_
