#ifndef CAIRN_CORE_BASE_FAILPOINT_H_
#define CAIRN_CORE_BASE_FAILPOINT_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace cairn {

// The steps at which a test may kill the process, or make it fail or wait: all
// between which a crash leaves a different state behind, and all that write. A
// step is named here and stands once in the code.
inline constexpr std::array kFailpointNames = {
    // Files of the blob store.
    "file.open", "file.write", "file.sync", "file.sync_all",
    // A transaction: before it is written; written, and nobody told.
    "store.commit", "store.committed",
    // BeginUpload, WriteUpload (a chunk; the end), FinishUpload (the blob is
    // there; the record, too), BatchUpload, CancelUpload.
    "upload.begun", "upload.written", "upload.synced", "upload.stored",
    "upload.finished", "upload.batch_stored", "upload.dropped",
    // CreateContribution: stored, and the author not told.
    "contribution.created",
    // A release: its files described, its document stored, its record written
    // for a new model or for a batch.
    "release.assembled", "release.sealed", "release.created",
    "release.published",
    // A blob is packed: not named yet; named, and the plain one still there.
    "pack.written", "pack.named",
    // The sweep: before, between and after the blobs it removes.
    "sweep.listed", "sweep.remove", "sweep.done"};

namespace internal {

inline constexpr size_t kFailpoints = kFailpointNames.size();
extern std::array<std::atomic<bool>, kFailpoints> armed_failpoints;
absl::Status HitFailpoint(size_t index);
// Not constexpr: a call ends compilation, and its name says why.
void FailpointIsNotNamedInFailpointH();

// A name that the compiler looked up.
struct FailpointIndex {
  consteval FailpointIndex(const char* name)  // NOLINT: converts by intent
      : index(0) {
    while (index < kFailpoints &&
           std::string_view(kFailpointNames[index]) != name) {
      ++index;
    }
    if (index == kFailpoints) FailpointIsNotNamedInFailpointH();
  }
  size_t index;
};

}  // namespace internal

// A step of kFailpointNames, reached. OK, for the price of one relaxed load,
// unless a test armed it; then it kills the process, waits, or returns the
// error to go on with. Thread-safe.
inline absl::Status Failpoint(internal::FailpointIndex name) {
  if (!internal::armed_failpoints[name.index].load(std::memory_order_relaxed))
      [[likely]] {
    return absl::OkStatus();
  }
  return internal::HitFailpoint(name.index);
}

// Replaces what is armed. `plan` is a list, divided by commas, of
//   NAME=ACTION[@FIRST][*TIMES]
// where ACTION is `crash` (SIGKILL to itself), `error` (UNAVAILABLE),
// `enospc` (what a full disk gives) or `delay` (50 ms); the FIRST time the
// step is reached (1) and TIMES in all (for ever) it happens. "" disarms all.
// INVALID_ARGUMENT, naming the part, for what is none of that. Thread-safe.
absl::Status ArmFailpoints(absl::string_view plan);

// Arms what the environment variable CAIRN_FAILPOINTS asks for; programs call
// it before they begin.
absl::Status ArmFailpointsFromEnvironment();

}  // namespace cairn

#endif  // CAIRN_CORE_BASE_FAILPOINT_H_
