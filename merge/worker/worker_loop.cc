#include "merge/worker/worker_loop.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stop_token>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "cairn/v1/worker.grpc.pb.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/rpc/blob_upload.h"
#include "merge/process/job_process.h"
#include "merge/worker/job_inputs.h"
#include "merge/worker/job_runner.h"
#include "merge/worker/job_stager.h"
#include "merge/worker/lease_keeper.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

constexpr absl::Duration kLeaseWait = absl::Seconds(15);
// With a result in hand, a hub that is away is worth waiting for.
constexpr absl::Duration kResultPatience = absl::Minutes(30);
constexpr int64_t kResultBytesMax = 1 << 30;

// A folder that is gone when this is.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(std::string path) : path_(std::move(path)) {}
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

 private:
  const std::string path_;
};

// The identity of this place, made once.
absl::StatusOr<std::string> InstanceId(const std::string& path) {
  absl::StatusOr<std::string> kept = ReadFile(path, 1024);
  if (kept.ok() && !kept->empty()) return kept;
  if (!kept.ok() && !absl::IsNotFound(kept.status())) return kept;
  std::string fresh = ToHex(RandomBytes(16));
  CAIRN_RETURN_IF_ERROR(WriteFile(path, fresh));
  return fresh;
}

absl::StatusOr<int> LockScratch(const std::string& scratch) {
  const std::string path = scratch + "/lock";
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return SystemError(errno, "open " + path);
  if (flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  close(fd);
  return absl::FailedPreconditionError(
      absl::StrCat("another cairn-worker uses ", scratch,
                   ": give each worker a --scratch directory of its own"));
}

JobProgress ReadProgress(const std::string& path) {
  JobProgress progress;
  std::ifstream file(path);
  file >> progress.fraction;
  std::getline(file, progress.text);
  progress.text = std::string(absl::StripPrefix(progress.text, " "));
  return progress;
}

absl::string_view KindOf(const v1::JobSpec& spec) {
  switch (spec.work_case()) {
    case v1::JobSpec::kEvaluate:
      return "evaluate";
    case v1::JobSpec::kSearch:
      return "search";
    case v1::JobSpec::kMerge:
      return "merge";
    case v1::JobSpec::kDelta:
      return "delta";
    case v1::JobSpec::WORK_NOT_SET:
      break;
  }
  return "unknown";
}

bool IsRefusal(const absl::Status& status) {
  return absl::IsUnauthenticated(status) || absl::IsPermissionDenied(status);
}

}  // namespace

absl::StatusOr<std::unique_ptr<WorkerLoop>> WorkerLoop::Create(
    HubChannel& hub, WorkerOptions options) {
  CAIRN_RETURN_IF_ERROR(MakeDirectory(options.scratch, 0700));
  CAIRN_ASSIGN_OR_RETURN(int lock, LockScratch(options.scratch));
  // What an earlier worker left when it was killed, suites among it.
  std::error_code ignored;
  fs::remove_all(options.scratch + "/jobs", ignored);
  CAIRN_RETURN_IF_ERROR(MakeDirectory(options.scratch + "/jobs", 0700));
  CAIRN_RETURN_IF_ERROR(MakeDirectory(options.scratch + "/releases", 0700));
  CAIRN_ASSIGN_OR_RETURN(std::string instance,
                         InstanceId(options.scratch + "/instance"));
  return std::unique_ptr<WorkerLoop>(
      new WorkerLoop(hub, std::move(options), std::move(instance), lock));
}

WorkerLoop::WorkerLoop(HubChannel& hub, WorkerOptions options,
                       std::string instance_id, int lock)
    : hub_(hub),
      options_(std::move(options)),
      instance_id_(std::move(instance_id)),
      lock_(lock),
      releases_(options_.scratch + "/releases", options_.cache_bytes) {}

WorkerLoop::~WorkerLoop() { close(lock_); }

absl::Status WorkerLoop::Run() {
  Backoff backoff;
  while (!hub_.stop().stop_requested()) {
    absl::Status status;
    if (session_.name().empty()) status = OpenSession();
    if (status.ok()) {
      absl::StatusOr<v1::LeaseJobResponse> response = LeaseJob();
      status = response.status();
      if (status.ok() && response->has_lease()) {
        status = DoJob(response->lease());
      }
      if (status.ok() && options_.is_once) return status;
    }
    if (status.ok()) {
      backoff.Reset();
      continue;
    }
    if (hub_.stop().stop_requested()) break;
    if (IsRefusal(status)) return status;
    // Whatever it was, a new session starts from a known state.
    if (!IsTransient(status)) session_.Clear();
    CAIRN_LOG(kWarning, status.message());
    if (!hub_.Sleep(backoff.Next(status)).ok()) break;
  }
  return absl::OkStatus();
}

absl::Status WorkerLoop::OpenSession() {
  v1::OpenSessionRequest request;
  request.set_instance_id(instance_id_);
  request.set_device_class(options_.device_class);
  request.add_kinds("evaluate");
  request.add_kinds("merge");
  CAIRN_ASSIGN_OR_RETURN(
      session_, hub_.Call(&v1::WorkerService::Stub::OpenSession, request));
  CAIRN_LOG(kInfo, "serving ", hub_.address(), " as ", session_.name(), ", ",
            options_.device_class, ", ", options_.threads, " threads");
  return absl::OkStatus();
}

absl::StatusOr<v1::LeaseJobResponse> WorkerLoop::LeaseJob() {
  v1::LeaseJobRequest request;
  request.set_session(session_.name());
  request.mutable_wait()->set_seconds(
      options_.is_once ? 1 : absl::ToInt64Seconds(kLeaseWait));
  return hub_.Call(&v1::WorkerService::Stub::LeaseJob, request,
                   {.deadline = kLeaseWait + absl::Seconds(15),
                    .patience = absl::ZeroDuration()});
}

absl::Status WorkerLoop::DoJob(const v1::Lease& lease) {
  const absl::Time start = absl::Now();
  const std::string folder =
      absl::StrCat(options_.scratch, "/jobs/",
                   absl::StrReplaceAll(lease.job(), {{"/", "-"}}), "-",
                   lease.fencing_token());
  TemporaryFolder wiped(folder);
  CAIRN_RETURN_IF_ERROR(MakeDirectory(folder, 0700));
  const JobLayout layout(folder, releases_.directory());

  absl::Duration beat = absl::Seconds(session_.heartbeat_interval().seconds());
  LeaseKeeper keeper(
      hub_, {.session = session_.name(),
             .job = lease.job(),
             .fencing_token = lease.fencing_token(),
             .interval = beat > absl::ZeroDuration() ? beat : absl::Seconds(15),
             .progress = [file = layout.progress_file()] {
               return ReadProgress(file);
             }});
  // The job is given up when the lease is lost or this worker is to end.
  std::stop_source stop;
  std::stop_callback when_lost(keeper.lost(), [&stop] { stop.request_stop(); });
  std::stop_callback at_end(hub_.stop(), [&stop] { stop.request_stop(); });

  absl::StatusOr<v1::CompleteJobRequest> request =
      WorkOn(lease, layout, stop.get_token());
  absl::Status status = request.status();
  if (request.ok()) status = Complete(*request);
  const std::string took = absl::FormatDuration(
      absl::Trunc(absl::Now() - start, absl::Milliseconds(1)));
  if (!status.ok()) {
    CAIRN_LOG(kWarning, lease.job(), " ", KindOf(lease.spec()),
              " was given up after ", took, ": ", status.message());
    // A lease that was lost is no fault of the session.
    return keeper.lost().stop_requested() || absl::IsAborted(status)
               ? absl::OkStatus()
               : status;
  }
  CAIRN_LOG(
      kInfo, lease.job(), " ", KindOf(lease.spec()), " for ", lease.model(),
      " attempt ", lease.attempt(), ": ",
      request->has_failure()
          ? absl::StrCat("failed: ", request->failure().reason().message())
          : "done",
      " in ", took);
  return absl::OkStatus();
}

absl::StatusOr<v1::CompleteJobRequest> WorkerLoop::WorkOn(
    const v1::Lease& lease, const JobLayout& layout,
    const std::stop_token& stop) {
  v1::CompleteJobRequest request;
  request.set_session(session_.name());
  request.set_job(lease.job());
  request.set_fencing_token(lease.fencing_token());
  absl::Status status =
      Persist(stop, [&] { return StageJob(hub_, lease, releases_, layout); });
  if (absl::IsCancelled(status) || absl::IsAborted(status)) return status;
  if (!status.ok()) {
    *request.mutable_failure() = FailureOf(status);
    request.mutable_failure()->set_cause(v1::JobFailure::WORKER);
    return request;
  }
  status = RunProcess(layout, stop);
  if (status.ok()) {
    status = Persist(stop, [&] { return UploadResult(layout, request); });
  }
  if (absl::IsCancelled(status)) return status;
  if (!status.ok()) *request.mutable_failure() = FailureOf(status);
  if (request.has_failure() &&
      request.failure().cause() == v1::JobFailure::WORKER) {
    // The copies may be at fault: the next attempt starts from fresh ones.
    for (const v1::ReleaseInput* release : InputsOf(lease.spec()).releases) {
      releases_.Remove(release->digest());
    }
  }
  return request;
}

absl::Status WorkerLoop::Complete(v1::CompleteJobRequest& request) {
  const CallOptions options = {.patience = kResultPatience};
  absl::Status status =
      hub_.Call(&v1::WorkerService::Stub::CompleteJob, request, options)
          .status();
  if (!absl::IsInvalidArgument(status) || request.has_failure()) return status;
  // A result that the hub does not take is a failure, or the job would come
  // back for ever.
  *request.mutable_failure() = FailureOf(status);
  request.mutable_failure()->set_cause(v1::JobFailure::WORKER);
  return hub_.Call(&v1::WorkerService::Stub::CompleteJob, request, options)
      .status();
}

absl::Status WorkerLoop::Persist(const std::stop_token& stop,
                                 absl::FunctionRef<absl::Status()> work) {
  const absl::Time end = absl::Now() + kResultPatience;
  Backoff backoff;
  while (true) {
    if (stop.stop_requested()) {
      return absl::CancelledError("the job was stopped");
    }
    absl::Status status = work();
    if (!IsTransient(status) || absl::Now() > end) return status;
    CAIRN_RETURN_IF_ERROR(hub_.Sleep(backoff.Next(status)));
  }
}

absl::Status WorkerLoop::RunProcess(const JobLayout& layout,
                                    const std::stop_token& stop) {
  return RunJobProcess(
      {options_.job_program, "--run-job", layout.job_directory(), "--releases",
       layout.release_directory(), "--device", options_.device, "--memory",
       absl::StrCat(options_.memory_bytes), "--threads",
       absl::StrCat(options_.threads)},
      {.memory_bytes = options_.memory_bytes,
       .processor_time = options_.job_time * options_.threads,
       .wall_time = options_.job_time},
      stop);
}

absl::Status WorkerLoop::UploadResult(const JobLayout& layout,
                                      v1::CompleteJobRequest& request) {
  std::error_code error;
  if (fs::exists(layout.failure_file(), error)) {
    CAIRN_ASSIGN_OR_RETURN(std::string bytes, ReadFile(layout.failure_file()));
    if (request.mutable_failure()->ParseFromString(bytes)) {
      return absl::OkStatus();
    }
    return absl::AbortedError("the job process left an unreadable failure");
  }
  std::vector<OutgoingBlob> blobs;
  auto add = [&](const std::string& path, const Digest& sha256) {
    absl::StatusOr<std::unique_ptr<ByteSource>> source = OpenFileSource(path);
    if (!source.ok()) return source.status();
    const int64_t size = (*source)->size();
    blobs.push_back(
        {.sha256 = sha256, .size_bytes = size, .source = *std::move(source)});
    return absl::OkStatus();
  };
  for (const auto& entry :
       fs::directory_iterator(layout.output_directory(), error)) {
    CAIRN_ASSIGN_OR_RETURN(Digest sha256,
                           Digest::Parse(entry.path().filename().string()));
    CAIRN_RETURN_IF_ERROR(add(entry.path(), sha256));
  }
  absl::StatusOr<std::string> result =
      ReadFile(layout.result_file(), kResultBytesMax);
  if (!result.ok()) {
    return absl::AbortedError("the job process left no result");
  }
  const Digest digest = Digest::Of(*result);
  CAIRN_RETURN_IF_ERROR(add(layout.result_file(), digest));
  CAIRN_RETURN_IF_ERROR(UploadBlobs(hub_, blobs));
  request.set_result_sha256(digest.hex());
  return absl::OkStatus();
}

}  // namespace cairn
