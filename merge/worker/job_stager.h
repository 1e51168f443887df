#ifndef CAIRN_MERGE_WORKER_JOB_STAGER_H_
#define CAIRN_MERGE_WORKER_JOB_STAGER_H_

#include "absl/status/status.h"
#include "cairn/v1/worker.pb.h"
#include "core/rpc/hub_channel.h"
#include "merge/worker/job_layout.h"
#include "merge/worker/release_cache.h"

namespace cairn {

// Downloads everything that a lease's spec names and writes the spec beside
// it, so that the job can run without the hub. Every file and blob is checked
// against its digest.
absl::Status StageJob(HubChannel& hub, const v1::Lease& lease,
                      ReleaseCache& releases, const JobLayout& layout);

}  // namespace cairn

#endif  // CAIRN_MERGE_WORKER_JOB_STAGER_H_
