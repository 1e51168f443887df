#ifndef CAIRN_MERGE_WORKER_SEARCH_JOB_H_
#define CAIRN_MERGE_WORKER_SEARCH_JOB_H_

#include "absl/status/statusor.h"
#include "cairn/v1/job.pb.h"
#include "merge/worker/job_context.h"

namespace cairn {

// Merges with every lambda asked for and scores each merge, rounded to the
// head's dtype as a release of it would be; the head too where asked to. Or,
// for attribution, the merge, a placebo, and the merge without each update.
absl::StatusOr<v1::SearchResult> RunSearchJob(const v1::SearchSpec& spec,
                                              const JobContext& context);

}  // namespace cairn

#endif  // CAIRN_MERGE_WORKER_SEARCH_JOB_H_
