#include "server/flow/delta_records.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/flow/job_records.h"
#include "server/flow/resource_names.h"
#include "server/flow/tables.h"

namespace cairn {
namespace {

using store::v1::ContributionRecord;
using store::v1::DeltaRecord;
using store::v1::ReleaseRecord;
using store::v1::TagRecord;

// How far back deltas to a new release are made without being asked for.
constexpr int kStepsBack = 8;
// Tags looked at; people have a handful.
constexpr size_t kTagsMax = 16;

// Updates whose factors a delta may hand out.
constexpr int kMembersMax = 64;

bool IsPowerOfTwo(int n) { return (n & (n - 1)) == 0; }

// What a release's merge says of low-rank updates. Nothing when it was no
// merge into `parent`, or when an update is not at hand.
absl::StatusOr<std::optional<v1::DeltaMerge>> DescribeMerge(
    const HubReader& reader, const ReleaseRecord& parent,
    const v1::Release& release) {
  const v1::MergeRecord& record = release.merge_record();
  if (record.inputs().empty() ||
      record.head_digest() != parent.release().digest()) {
    return std::optional<v1::DeltaMerge>();
  }
  v1::DeltaMerge merge;
  for (const v1::MergeRecord::Input& input : record.inputs()) {
    CAIRN_ASSIGN_OR_RETURN(
        auto member, reader.Find<ContributionRecord>(input.contribution()));
    if (!member.has_value() || member->bytes_dropped() ||
        member->contribution().digest() != input.digest()) {
      return std::optional<v1::DeltaMerge>();
    }
    if (member->contribution().encoding() != v1::Encoding::LORA) continue;
    v1::DeltaMerge::Member& out = *merge.add_members();
    out.set_coefficient(input.coefficient());
    CAIRN_ASSIGN_OR_RETURN(*out.mutable_update(),
                           MakeUpdateInput(reader, *member));
    // Factors are whole without it.
    out.mutable_update()->clear_base();
  }
  return std::optional<v1::DeltaMerge>(std::move(merge));
}

// The merges that lead from one release to another, oldest first; none when
// they are not all known.
absl::StatusOr<std::vector<v1::DeltaMerge>> MergesBetween(
    const HubReader& reader, const ReleaseRecord& from,
    const ReleaseRecord& to) {
  std::vector<v1::DeltaMerge> merges;
  ReleaseRecord release = to;
  int members = 0;
  while (release.release().name() != from.release().name()) {
    CAIRN_ASSIGN_OR_RETURN(
        auto parent, reader.Find<ReleaseRecord>(release.release().parent()));
    if (!parent.has_value() || merges.size() == kStepsBack) {
      return std::vector<v1::DeltaMerge>();
    }
    CAIRN_ASSIGN_OR_RETURN(auto merge,
                           DescribeMerge(reader, *parent, release.release()));
    if (!merge.has_value()) return std::vector<v1::DeltaMerge>();
    members += merge->members_size();
    if (members > kMembersMax) return std::vector<v1::DeltaMerge>();
    merges.push_back(*std::move(merge));
    release = *std::move(parent);
  }
  std::reverse(merges.begin(), merges.end());
  return merges;
}

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
  v1::DeltaSpec& spec = *request.spec.mutable_delta();
  *spec.mutable_from() = MakeReleaseInput(from);
  *spec.mutable_to() = MakeReleaseInput(to);
  CAIRN_ASSIGN_OR_RETURN(auto merges, MergesBetween(transaction, from, to));
  spec.mutable_merges()->Add(merges.begin(), merges.end());
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
