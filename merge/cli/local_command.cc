#include "merge/cli/local_command.h"

#include <sched.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/delta/update_delta.h"
#include "merge/engine/checkpoint_writer.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

}  // namespace

void AddLocalFlags(CLI::App& app, LocalFlags& flags) {
  app.add_flag("--json", flags.json, "the result as JSON on stdout");
  app.add_flag("--quiet", flags.quiet, "no messages but errors");
  app.add_flag("--no-progress", flags.no_progress, "no progress line");
  app.add_option("--color", flags.color, "auto, always or never")
      ->check(CLI::IsMember({"auto", "always", "never"}));
  app.add_option("--threads", flags.threads, "threads; default: all processors")
      ->check(CLI::Range(1, 1024));
}

int ThreadsOf(const LocalFlags& flags) {
  if (flags.threads > 0) return flags.threads;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

int RunLocalCommand(CLI::App& app, int argc, char** argv,
                    const LocalFlags& flags,
                    const std::function<absl::Status()>& work) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsageExit;
  }
  const absl::Status status = work();
  return status.ok() ? 0 : Fail(app.get_name(), status, flags.json);
}

absl::Status LocalFault(const absl::Status& status) {
  const std::optional<ErrorReason> reason = GetReason(status);
  const bool is_damaged = reason && (reason->code == "MALFORMED_FILE" ||
                                     reason->code == "LIMIT_EXCEEDED");
  if (!absl::IsInvalidArgument(status) || !is_damaged) return status;
  return ReasonedError(absl::StatusCode::kDataLoss, reason->code,
                       status.message(), reason->details);
}

absl::StatusOr<Checkpoint> OpenLocalCheckpoint(const std::string& directory) {
  auto checkpoint = Checkpoint::OpenDirectory(directory);
  if (checkpoint.ok()) return checkpoint;
  return Annotate(LocalFault(checkpoint.status()), directory);
}

absl::StatusOr<std::unique_ptr<Update>> OpenLocalUpdate(
    const std::string& directory, const Checkpoint* base) {
  auto update = base == nullptr ? OpenUpdateDirectory(directory)
                                : OpenUpdateOn(*base, directory);
  if (update.ok()) return update;
  return Annotate(LocalFault(update.status()), directory);
}

absl::StatusOr<OutputDirectory> OutputDirectory::Create(
    const std::string& path) {
  CAIRN_ASSIGN_OR_RETURN(OutputDirectory output, Resume(path));
  std::error_code error;
  fs::remove_all(output.partial_, error);
  CAIRN_RETURN_IF_ERROR(MakeDirectory(output.partial_));
  return output;
}

absl::StatusOr<OutputDirectory> OutputDirectory::Resume(
    const std::string& path) {
  std::error_code error;
  const fs::file_status found = fs::status(path, error);
  if (fs::exists(found) &&
      (!fs::is_directory(found) || !fs::is_empty(path, error))) {
    return absl::AlreadyExistsError(absl::StrCat(
        path, " is not empty: name a directory that is not there yet"));
  }
  std::string clean = fs::path(path).lexically_normal();
  while (clean.size() > 1 && clean.back() == '/') clean.pop_back();
  OutputDirectory output(clean);
  const absl::Status made = MakeDirectory(output.partial_);
  if (absl::IsNotFound(made)) {  // a file where a directory has to be
    return absl::InvalidArgumentError(made.message());
  }
  CAIRN_RETURN_IF_ERROR(made);
  return output;
}

OutputDirectory::OutputDirectory(std::string path)
    : path_(std::move(path)), partial_(path_ + ".partial") {}

OutputDirectory::OutputDirectory(OutputDirectory&& other) noexcept
    : path_(std::move(other.path_)),
      partial_(std::exchange(other.partial_, "")) {}

OutputDirectory::~OutputDirectory() {
  std::error_code ignored;
  if (!partial_.empty()) fs::remove_all(partial_, ignored);
}

absl::Status OutputDirectory::Publish() && {
  std::error_code error;
  fs::remove(path_, error);  // an empty directory may stand there
  fs::rename(partial_, path_, error);
  if (error) return SystemError(error.value(), "rename " + partial_);
  partial_.clear();
  return absl::OkStatus();
}

absl::StatusOr<MergeOutcome> MergeIntoDirectory(const MergeRequest& request,
                                                const MergeOptions& options,
                                                const std::string& directory,
                                                const LocalFlags& flags) {
  CAIRN_ASSIGN_OR_RETURN(MergePlan plan, PlanMerge(request, options));
  absl::flat_hash_set<std::string> replaced;
  for (const PlannedTensor& planned : plan.tensors) {
    replaced.insert(planned.tensor->name);
  }
  CAIRN_ASSIGN_OR_RETURN(
      std::unique_ptr<CheckpointWriter> writer,
      CheckpointWriter::Create(*request.head, directory, replaced));
  ProgressLine line("bytes", !flags.quiet && !flags.no_progress);
  CAIRN_ASSIGN_OR_RETURN(
      MergeOutcome outcome,
      RunMerge(
          request, plan,
          [&](const CheckpointTensor& tensor, int64_t offset,
              absl::Span<const char> bytes) {
            return writer->Write(tensor, offset, bytes);
          },
          [&](int64_t done) { line.Show(done, plan.bytes_written); }));
  CAIRN_RETURN_IF_ERROR(std::move(*writer).Finish());
  return outcome;
}

}  // namespace cairn
