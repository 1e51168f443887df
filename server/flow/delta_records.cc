#include "server/flow/delta_records.h"

#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/flow/job_records.h"
#include "server/flow/resource_names.h"

namespace cairn {
namespace {

using store::v1::DeltaRecord;
using store::v1::ReleaseRecord;
using store::v1::TagRecord;

// How far back deltas to a new release are made without being asked for.
constexpr int kStepsBack = 8;
// Tags looked at; people have a handful.
constexpr size_t kTagsMax = 16;

bool IsPowerOfTwo(int n) { return (n & (n - 1)) == 0; }

}  // namespace

std::string DeltaName(absl::string_view to, absl::string_view from) {
  return absl::StrCat(to, "/deltas/", ShortName(from));
}

absl::StatusOr<DeltaRecord> AskForDelta(HubTransaction& transaction,
                                        const ReleaseRecord& from,
                                        const ReleaseRecord& to) {
  const std::string name =
      DeltaName(to.release().name(), from.release().name());
  CAIRN_ASSIGN_OR_RETURN(auto known, transaction.Find<DeltaRecord>(name));
  if (known.has_value()) return *std::move(known);
  DeltaRecord record;
  v1::Delta& delta = *record.mutable_delta();
  delta.set_name(name);
  delta.set_from(from.release().name());
  delta.set_to(to.release().name());
  delta.set_state(v1::Delta::PENDING);
  int64_t full_bytes = 0;
  for (const v1::File& file : to.release().files()) {
    if (absl::EndsWith(file.path(), ".safetensors")) {
      full_bytes += file.size_bytes();
    }
  }
  delta.set_full_bytes(full_bytes);
  JobRequest request{.model = std::string(ModelOf(name)), .subject = name};
  *request.spec.mutable_delta()->mutable_from() = MakeReleaseInput(from);
  *request.spec.mutable_delta()->mutable_to() = MakeReleaseInput(to);
  CAIRN_ASSIGN_OR_RETURN(*record.mutable_job(),
                         EnqueueJob(transaction, request));
  CAIRN_RETURN_IF_ERROR(transaction.Put(record));
  return record;
}

absl::Status PlanDeltas(HubTransaction& transaction, const ReleaseRecord& to) {
  std::set<std::string> bases;
  std::string ancestor = to.release().parent();
  for (int back = 1; back <= kStepsBack && !ancestor.empty(); ++back) {
    if (IsPowerOfTwo(back)) bases.insert(ancestor);
    CAIRN_ASSIGN_OR_RETURN(auto record,
                           transaction.Find<ReleaseRecord>(ancestor));
    if (!record.has_value()) break;
    ancestor = record->release().parent();
  }
  CAIRN_ASSIGN_OR_RETURN(
      auto tags,
      transaction.ListAll<TagRecord>(
          absl::StrCat(ModelOf(to.release().name()), "/tags/"), kTagsMax));
  for (const TagRecord& tag : tags) bases.insert(tag.tag().release());
  for (const std::string& base : bases) {
    CAIRN_ASSIGN_OR_RETURN(auto from, transaction.Find<ReleaseRecord>(base));
    // Equal weights need no delta: the files are equal.
    if (!from.has_value() ||
        from->release().digest() == to.release().digest()) {
      continue;
    }
    CAIRN_RETURN_IF_ERROR(AskForDelta(transaction, *from, to).status());
  }
  return absl::OkStatus();
}

}  // namespace cairn
