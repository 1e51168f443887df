#include "merge/worker/merge_job.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <map>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/mutex.h"
#include "core/base/status_macros.h"
#include "core/tensor/tensor_manifest.h"
#include "merge/engine/merge_executor.h"

namespace cairn {
namespace {

// Writes merged tensors to files that get their digests as names in the end.
class TensorFiles {
 public:
  explicit TensorFiles(std::string directory)
      : directory_(std::move(directory)) {}

  // Bytes of one tensor come in order. Thread-safe.
  absl::Status Append(const CheckpointTensor& tensor,
                      absl::Span<const char> bytes) {
    const std::string path = PathOf(tensor.name);
    const int fd =
        open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) return SystemError(errno, "create " + path);
    absl::Status written = WriteAll(fd, path, bytes);
    close(fd);
    return written;
  }

  absl::Status NameByDigest(const MergeOutcome& outcome) {
    for (const std::string& name : outcome.changed) {
      const std::string path = PathOf(name);
      const std::string& sha256 = FindTensor(outcome.tensors, name)->sha256();
      std::error_code error;
      std::filesystem::rename(path, absl::StrCat(directory_, "/", sha256),
                              error);
      if (error) return SystemError(error.value(), "rename " + path);
    }
    return absl::OkStatus();
  }

 private:
  // Tensor names may hold anything, so files are numbered.
  std::string PathOf(const std::string& name) {
    MutexLock lock(mutex_);
    const size_t number =
        numbers_.try_emplace(name, numbers_.size()).first->second;
    return absl::StrCat(directory_, "/tensor-", number);
  }

  static absl::Status WriteAll(int fd, const std::string& path,
                               absl::Span<const char> bytes) {
    while (!bytes.empty()) {
      const ssize_t n = write(fd, bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return SystemError(errno, "write " + path);
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return absl::OkStatus();
  }

  const std::string directory_;
  Mutex mutex_;
  std::map<std::string, size_t> numbers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<v1::MergeResult> RunMergeJob(const v1::MergeSpec& spec,
                                            const JobContext& context) {
  CAIRN_ASSIGN_OR_RETURN(JobWeights head, OpenWeights(spec.head(), context));
  std::vector<JobUpdate> updates;
  for (int i = 0; i < spec.updates_size(); ++i) {
    CAIRN_ASSIGN_OR_RETURN(
        updates.emplace_back(),
        OpenJobUpdate(spec.updates(i), static_cast<size_t>(i), context));
  }
  const MergeRequest request = {
      .head = &head.checkpoint,
      .head_identity = &head.identity,
      .inputs = MergeInputsOf(spec.updates(), updates),
      .strategy = spec.strategy(),
      .parameters = {spec.parameters().begin(), spec.parameters().end()},
      .seed = spec.seed(),
      .device_class = context.device_class};
  CAIRN_ASSIGN_OR_RETURN(
      MergePlan plan,
      PlanMerge(request, {.threads = context.threads,
                          .memory_bytes = context.memory_bytes}));
  const bool is_kept = spec.output() == v1::MergeSpec::UPLOAD;
  CAIRN_RETURN_IF_ERROR(MakeDirectory(context.layout.output_directory()));
  TensorFiles files(context.layout.output_directory());
  context.progress(0, "merging");
  CAIRN_ASSIGN_OR_RETURN(MergeOutcome outcome,
                         RunMerge(request, plan,
                                  [&](const CheckpointTensor& tensor, int64_t,
                                      absl::Span<const char> bytes) {
                                    return is_kept ? files.Append(tensor, bytes)
                                                   : absl::OkStatus();
                                  }));
  v1::MergeResult result;
  result.set_digest(outcome.digest);
  *result.mutable_record() = std::move(outcome.record);
  const std::string manifest = SerializeTensorManifest(outcome.tensors);
  result.set_tensor_manifest_sha256(Digest::Of(manifest).hex());
  if (is_kept) {
    CAIRN_RETURN_IF_ERROR(files.NameByDigest(outcome));
    CAIRN_RETURN_IF_ERROR(
        WriteFile(absl::StrCat(context.layout.output_directory(), "/",
                               result.tensor_manifest_sha256()),
                  manifest));
  }
  return result;
}

}  // namespace cairn
