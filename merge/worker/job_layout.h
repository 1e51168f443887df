#ifndef CAIRN_MERGE_WORKER_JOB_LAYOUT_H_
#define CAIRN_MERGE_WORKER_JOB_LAYOUT_H_

#include <cstddef>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"

namespace cairn {

// Where the parts of a job lie on disk: what the worker downloads, what the
// job process reads and what it leaves behind. Releases are kept between jobs,
// everything else is gone with the job.
class JobLayout {
 public:
  JobLayout(std::string job_directory, std::string release_directory)
      : job_(std::move(job_directory)),
        releases_(std::move(release_directory)) {}

  const std::string& job_directory() const { return job_; }
  const std::string& release_directory() const { return releases_; }

  // The serialised JobSpec.
  std::string spec_file() const { return job_ + "/spec"; }
  // A line "FRACTION TEXT", rewritten as the job goes on.
  std::string progress_file() const { return job_ + "/progress"; }
  // What the job process leaves: a serialised JobResult, or else a JobFailure.
  std::string result_file() const { return job_ + "/result"; }
  std::string failure_file() const { return job_ + "/failure"; }
  // Blobs to be uploaded, each named by its SHA-256.
  std::string output_directory() const { return job_ + "/output"; }
  // Scratch space of the job process.
  std::string temporary_directory() const { return job_ + "/tmp"; }

  // A release's files, by its digest ("sha256:..." or hex).
  std::string Release(absl::string_view digest) const;
  // A blob of a candidate or a tensor manifest, by SHA-256.
  std::string Blob(absl::string_view sha256) const;
  std::string blob_directory() const { return job_ + "/blobs"; }
  // Files of the n-th update and of the n-th suite of the spec.
  std::string Update(size_t index) const;
  std::string Suite(size_t index) const;

 private:
  std::string job_;
  std::string releases_;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_WORKER_JOB_LAYOUT_H_
