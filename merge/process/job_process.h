#ifndef CAIRN_MERGE_PROCESS_JOB_PROCESS_H_
#define CAIRN_MERGE_PROCESS_JOB_PROCESS_H_

#include <cstdint>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace cairn {

// What a job process may use.
struct JobLimits {
  // Private memory; 0: no limit.
  int64_t memory_bytes = 0;
  // Processor time of all its threads, and time on the wall.
  absl::Duration processor_time = absl::Hours(24);
  absl::Duration wall_time = absl::Hours(6);
  // Largest file it may write.
  int64_t file_bytes = int64_t{64} << 30;
  int open_files = 1024;
};

// Runs a program as a child process that lives no longer than this one: at low
// priority, within limits, without network (a network namespace of its own
// where the kernel grants one, and a filter that refuses sockets), with an
// empty standard input, no inherited descriptors and no CAIRN_* variables.
//
// OK when it exits with 0. CANCELLED when `stop` was requested and it was
// killed for that. ABORTED for every other end, saying how: the exit code, the
// signal by name, or the limit that it broke.
absl::Status RunJobProcess(const std::vector<std::string>& command,
                           const JobLimits& limits,
                           const std::stop_token& stop);

}  // namespace cairn

#endif  // CAIRN_MERGE_PROCESS_JOB_PROCESS_H_
