#include "merge/worker/delta_job.h"

#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/delta/delta_pack_writer.h"
#include "core/tensor/checkpoint.h"
#include "core/update/effects.h"
#include "core/update/update.h"
#include "merge/delta/update_delta.h"

namespace cairn {
namespace {

// What the merges between two releases did, as far as low-rank updates tell.
class KnownMerges {
 public:
  // `model` has the tensors that all these releases have.
  static absl::StatusOr<KnownMerges> Open(const v1::DeltaSpec& spec,
                                          const JobLayout& layout,
                                          const Checkpoint& model) {
    KnownMerges merges;
    size_t index = 0;
    for (const v1::DeltaMerge& merge : spec.merges()) {
      std::vector<Member>& members = merges.steps_.emplace_back();
      for (const auto& member : merge.members()) {
        auto update = OpenUpdateOn(model, layout.Update(index++));
        if (!update.ok()) {
          return Annotate(update.status(), member.update().contribution());
        }
        if ((*update)->encoding() != v1::Encoding::LORA) continue;
        members.push_back({.update = *std::move(update),
                           .coefficient = member.coefficient()});
      }
    }
    return merges;
  }

  absl::StatusOr<LowRankSteps> StepsOf(absl::string_view tensor) const {
    LowRankSteps steps;
    for (const std::vector<Member>& members : steps_) {
      std::vector<LowRankTerm> terms;
      for (const Member& member : members) {
        if (member.update->FactorBytes(tensor) == 0) continue;
        CAIRN_ASSIGN_OR_RETURN(LoraFactors read,
                               member.update->ReadFactors(tensor));
        LowRankBlock factors = Orient(std::move(read));
        terms.push_back({.coefficient = static_cast<float>(member.coefficient),
                         .scale = factors.scale,
                         .rank = factors.rank,
                         .left = std::move(factors.left),
                         .right = std::move(factors.right)});
      }
      if (!terms.empty()) steps.push_back(std::move(terms));
    }
    return steps;
  }

 private:
  struct Member {
    std::unique_ptr<Update> update;
    double coefficient = 0;
  };
  std::vector<std::vector<Member>> steps_;
};

}  // namespace

absl::StatusOr<v1::DeltaResult> RunDeltaJob(const v1::DeltaSpec& spec,
                                            const JobContext& context) {
  const auto open = [&](const v1::ReleaseInput& release) {
    return Checkpoint::OpenDirectory(context.layout.Release(release.digest()));
  };
  CAIRN_ASSIGN_OR_RETURN(Checkpoint from, open(spec.from()));
  CAIRN_ASSIGN_OR_RETURN(Checkpoint to, open(spec.to()));
  CAIRN_ASSIGN_OR_RETURN(KnownMerges merges,
                         KnownMerges::Open(spec, context.layout, from));
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
                                         .steps =
                                             [&](const CheckpointTensor& t) {
                                               return merges.StepsOf(t.name);
                                             },
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
