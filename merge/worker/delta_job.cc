#include "merge/worker/delta_job.h"

#include <filesystem>
#include <string>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/delta/delta_pack_writer.h"
#include "core/tensor/checkpoint.h"

namespace cairn {

absl::StatusOr<v1::DeltaResult> RunDeltaJob(const v1::DeltaSpec& spec,
                                            const JobContext& context) {
  const auto open = [&](const v1::ReleaseInput& release) {
    return Checkpoint::OpenDirectory(context.layout.Release(release.digest()));
  };
  CAIRN_ASSIGN_OR_RETURN(Checkpoint from, open(spec.from()));
  CAIRN_ASSIGN_OR_RETURN(Checkpoint to, open(spec.to()));
  const std::string directory = context.layout.output_directory();
  CAIRN_RETURN_IF_ERROR(MakeDirectory(directory));
  const std::string path = absl::StrCat(directory, "/delta");
  const std::string doing =
      absl::StrCat("delta from ", spec.from().name(), " to ", spec.to().name());
  CAIRN_ASSIGN_OR_RETURN(WrittenDelta written,
                         WriteDeltaPack(from, to, path,
                                        {.from_digest = spec.from().digest(),
                                         .to_digest = spec.to().digest(),
                                         .threads = context.threads,
                                         .progress = [&](double fraction) {
                                           context.progress(fraction, doing);
                                         }}));
  std::error_code error;
  std::filesystem::rename(path, absl::StrCat(directory, "/", written.sha256),
                          error);
  if (error) return SystemError(error.value(), "rename " + path);
  v1::DeltaResult result;
  result.set_sha256(written.sha256);
  result.set_size_bytes(written.size_bytes);
  return result;
}

}  // namespace cairn
