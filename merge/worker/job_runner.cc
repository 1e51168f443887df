#include "merge/worker/job_runner.h"

#include <exception>
#include <filesystem>
#include <fstream>
#include <new>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/worker/delta_job.h"
#include "merge/worker/evaluate_job.h"
#include "merge/worker/merge_job.h"
#include "merge/worker/search_job.h"

namespace cairn {
namespace {

constexpr absl::Duration kProgressInterval = absl::Milliseconds(500);

// Rewrites the progress file, but not all the time.
class ProgressFile {
 public:
  explicit ProgressFile(std::string path) : path_(std::move(path)) {}

  void Report(double fraction, absl::string_view text) {
    const absl::Time now = absl::Now();
    if (now - written_ < kProgressInterval) return;
    written_ = now;
    const std::string fresh = path_ + ".new";
    std::ofstream(fresh) << absl::StrCat(fraction, " ", text, "\n");
    std::error_code ignored;
    std::filesystem::rename(fresh, path_, ignored);
  }

 private:
  const std::string path_;
  absl::Time written_ = absl::InfinitePast();
};

absl::StatusOr<v1::JobResult> ReadAndRun(const JobContext& context) {
  CAIRN_ASSIGN_OR_RETURN(std::string bytes,
                         ReadFile(context.layout.spec_file()));
  v1::JobSpec spec;
  if (!spec.ParseFromString(bytes)) {
    return absl::InternalError("the job's spec cannot be parsed");
  }
  try {
    return RunJob(spec, context);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the job needs more memory than the ",
                     context.memory_bytes, " bytes of --memory"));
  } catch (const std::exception& error) {
    return absl::InternalError(
        absl::StrCat("the job threw an exception: ", error.what()));
  }
}

}  // namespace

absl::StatusOr<v1::JobResult> RunJob(const v1::JobSpec& spec,
                                     const JobContext& context) {
  v1::JobResult result;
  result.set_device_class(context.device_class);
  switch (spec.work_case()) {
    case v1::JobSpec::kEvaluate: {
      CAIRN_ASSIGN_OR_RETURN(*result.mutable_evaluate(),
                             RunEvaluateJob(spec.evaluate(), context));
      return result;
    }
    case v1::JobSpec::kSearch: {
      CAIRN_ASSIGN_OR_RETURN(*result.mutable_search(),
                             RunSearchJob(spec.search(), context));
      return result;
    }
    case v1::JobSpec::kMerge: {
      CAIRN_ASSIGN_OR_RETURN(*result.mutable_merge(),
                             RunMergeJob(spec.merge(), context));
      return result;
    }
    case v1::JobSpec::kDelta: {
      CAIRN_ASSIGN_OR_RETURN(*result.mutable_delta(),
                             RunDeltaJob(spec.delta(), context));
      return result;
    }
    case v1::JobSpec::WORK_NOT_SET:
      break;
  }
  return absl::UnimplementedError(
      "this worker does not know the kind of job it was given: update it");
}

int RunJobProcessMain(JobContext context) {
  ProgressFile progress(context.layout.progress_file());
  context.progress = [&](double fraction, absl::string_view text) {
    progress.Report(fraction, text);
  };
  absl::StatusOr<v1::JobResult> result = ReadAndRun(context);
  absl::Status written =
      result.ok()
          ? WriteFile(context.layout.result_file(), result->SerializeAsString())
          : WriteFile(context.layout.failure_file(),
                      FailureOf(result.status()).SerializeAsString());
  if (written.ok()) return 0;
  CAIRN_LOG(kError, "cannot leave the job's result: ", written.message());
  return 1;
}

v1::JobFailure FailureOf(const absl::Status& status) {
  v1::JobFailure failure;
  switch (status.code()) {
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kAborted:
      failure.set_cause(v1::JobFailure::CRASH);
      break;
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
      failure.set_cause(v1::JobFailure::WORKER);
      break;
    default:
      failure.set_cause(v1::JobFailure::INPUT);
  }
  v1::Reason& reason = *failure.mutable_reason();
  reason.set_code(v1::Reason::EVALUATION_FAILED);
  reason.set_message(std::string(status.message()));
  if (std::optional<ErrorReason> given = GetReason(status)) {
    v1::Reason::Code code;
    if (v1::Reason::Code_Parse(given->code, &code)) reason.set_code(code);
    auto tensor = given->details.find("tensor");
    if (tensor != given->details.end()) reason.set_tensor(tensor->second);
  }
  return failure;
}

}  // namespace cairn
