#include "merge/tensor/compute.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <dlfcn.h>
#include <malloc.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/log.h"
#include "core/base/mutex.h"
#include "merge/tensor/torch_bridge.h"

namespace cairn {
namespace {

// A pthread build of OpenBLAS has threads of its own, which libtorch does not
// know of.
void LimitBlasToOneThread() {
  using SetThreads = void (*)(int);
  if (void* symbol = dlsym(RTLD_DEFAULT, "openblas_set_num_threads")) {
    reinterpret_cast<SetThreads>(symbol)(1);
  }
}

double MeasureGigaflops() {
  constexpr int64_t kSide = 384;
  const at::Tensor a = at::ones({kSide, kSide});
  double best = 0;
  for (int round = 0; round < 3; ++round) {
    const auto start = std::chrono::steady_clock::now();
    at::mm(a, a);
    const std::chrono::duration<double> taken =
        std::chrono::steady_clock::now() - start;
    best = std::max(best, 2e-9 * kSide * kSide * kSide / taken.count());
  }
  return best;
}

// Failures by index; the smallest one is what a sequential run would meet.
class FirstFailure {
 public:
  void Add(int64_t index, absl::Status status) {
    MutexLock lock(mutex_);
    if (!index_.has_value() || index < *index_) {
      index_ = index;
      status_ = std::move(status);
    }
  }
  absl::Status status() const {
    MutexLock lock(mutex_);
    return status_;
  }

 private:
  mutable Mutex mutex_;
  std::optional<int64_t> index_ ABSL_GUARDED_BY(mutex_);
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

int AvailableProcessors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    return std::max(1, CPU_COUNT(&set));
  }
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

void InitCompute() {
  // The largest value that glibc takes; above it pages go back to the system.
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 512 << 20);
  at::set_num_threads(1);
  LimitBlasToOneThread();
}

void WarnIfMatrixProductsAreSlow() {
  constexpr double kSlow = 8.0;
  const absl::StatusOr<double> measured =
      CatchTorch("measuring matrix products",
                 []() -> absl::StatusOr<double> { return MeasureGigaflops(); });
  if (!measured.ok() || *measured >= kSlow) return;
  CAIRN_LOG(kWarning, "matrix products run at ", *measured,
            " GFLOP/s a thread; an optimised BLAS is many times faster (on "
            "Debian: apt install libopenblas0-pthread)");
}

absl::Status ParallelFor(int threads, int64_t count,
                         absl::FunctionRef<absl::Status(int64_t)> work) {
  std::atomic<int64_t> next = 0;
  std::atomic<bool> has_failed = false;
  FirstFailure failure;
  auto run = [&] {
    at::set_num_threads(1);  // libtorch keeps this per thread
    while (!has_failed.load()) {
      const int64_t index = next.fetch_add(1);
      if (index >= count) return;
      if (absl::Status status = work(index); !status.ok()) {
        failure.Add(index, std::move(status));
        has_failed.store(true);
      }
    }
  };
  LimitBlasToOneThread();
  {
    std::vector<std::jthread> helpers;
    const int64_t wanted = std::min<int64_t>(threads, count) - 1;
    for (int64_t i = 0; i < wanted; ++i) helpers.emplace_back(run);
    run();
  }
  return failure.status();
}

}  // namespace cairn
