#ifndef CAIRN_SERVER_JOBS_NAMED_BLOBS_H_
#define CAIRN_SERVER_JOBS_NAMED_BLOBS_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "cairn/v1/job.pb.h"

namespace cairn {

// What a job's specification lets its worker read: nothing else leaves the
// hub under a lease.
struct NamedBlobs {
  // SHA-256 of files of updates and suites, and of tensor manifests.
  std::vector<std::string> blobs;
  // Manifests whose tensors may be read as well: those of candidates.
  std::vector<std::string> candidate_manifests;
};

NamedBlobs BlobsNamedBy(const v1::JobSpec& spec);

// Calls `visit` with every suite of an evaluation or search.
void ForEachSuite(v1::JobSpec& spec,
                  const std::function<void(v1::SuiteInput&)>& visit);

}  // namespace cairn

#endif  // CAIRN_SERVER_JOBS_NAMED_BLOBS_H_
