#include "server/flow/tables.h"

#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "core/base/digest.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "server/flow/contribution_state.h"
#include "server/flow/resource_names.h"

namespace cairn {
namespace {

using store::v1::BaseScoresRecord;
using store::v1::BatchRecord;
using store::v1::ContributionRecord;
using store::v1::DeltaRecord;
using store::v1::EventRecord;
using store::v1::FingerprintRecord;
using store::v1::HoldoutRecord;
using store::v1::JobRecord;
using store::v1::LedgerRecord;
using store::v1::ModelRecord;
using store::v1::ReleaseRecord;
using store::v1::ReplayRecord;
using store::v1::RequestRecord;
using store::v1::SessionRecord;
using store::v1::SuiteRecord;
using store::v1::TagRecord;
using store::v1::TokenRecord;
using store::v1::UserRecord;

template <typename State>
absl::Status CheckMove(absl::string_view name, const State* before, State after,
                       const std::string& (*state_name)(State)) {
  State from = before == nullptr ? static_cast<State>(0) : *before;
  if (IsLegalMove(from, after)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(name, " is ", state_name(from), " and cannot become ",
                   state_name(after)));
}

std::string Hex(absl::string_view digest) {
  absl::ConsumePrefix(&digest, "sha256:");
  return std::string(digest);
}

}  // namespace

std::string ReleaseIndexValue(absl::string_view model, absl::string_view hex) {
  return absl::StrCat(model, "/", hex);
}

std::string ContributionDigestValue(absl::string_view model,
                                    absl::string_view digest) {
  return absl::StrCat(model, "/", Hex(digest));
}

std::string QueueValue(absl::string_view model) {
  return absl::StrCat(model, "/");
}

std::string SuiteVersionName(absl::string_view suite, int32_t version) {
  return absl::StrCat(suite, "/", version);
}

std::string EventName(absl::string_view model, int64_t sequence) {
  return absl::StrCat(model, "/", sequence);
}

std::string ComputeEtag(const google::protobuf::Message& resource) {
  std::unique_ptr<google::protobuf::Message> copy(resource.New());
  copy->CopyFrom(resource);
  const auto* field = copy->GetDescriptor()->FindFieldByName("etag");
  if (field != nullptr) copy->GetReflection()->ClearField(copy.get(), field);
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream out(&stream);
    out.SetSerializationDeterministic(true);
    copy->SerializeWithCachedSizes(&out);
  }
  return Digest::Of(bytes).hex().substr(0, 16);
}

std::string Table<ModelRecord>::Name(const ModelRecord& r) {
  return r.model().name();
}
void Table<ModelRecord>::Seal(ModelRecord& r) {
  r.mutable_model()->set_etag(ComputeEtag(r.model()));
}

std::string Table<ReleaseRecord>::Name(const ReleaseRecord& r) {
  return r.release().name();
}
std::vector<IndexEntry> Table<ReleaseRecord>::Indexes(const ReleaseRecord& r) {
  absl::string_view model = ModelOf(r.release().name());
  return {
      {kReleaseByDigest, ReleaseIndexValue(model, Hex(r.release().digest()))},
      {kReleaseByCommit, ReleaseIndexValue(model, r.release().commit())}};
}
void Table<ReleaseRecord>::Seal(ReleaseRecord& r) {
  r.mutable_release()->set_etag(ComputeEtag(r.release()));
}

std::string Table<TagRecord>::Name(const TagRecord& r) {
  return r.tag().name();
}
void Table<TagRecord>::Seal(TagRecord& r) {
  r.mutable_tag()->set_etag(ComputeEtag(r.tag()));
}

std::string Table<SuiteRecord>::Name(const SuiteRecord& r) {
  return SuiteVersionName(r.suite().name(), r.suite().version());
}
std::vector<IndexEntry> Table<SuiteRecord>::Indexes(const SuiteRecord& r) {
  return {{kSuiteByState, v1::Suite::State_Name(r.suite().state())}};
}
absl::Status Table<SuiteRecord>::Check(const SuiteRecord* before,
                                       const SuiteRecord& after) {
  v1::Suite::State from = before == nullptr ? v1::Suite::STATE_UNSPECIFIED
                                            : before->suite().state();
  return CheckMove<v1::Suite::State>(Name(after), &from, after.suite().state(),
                                     &v1::Suite::State_Name);
}
void Table<SuiteRecord>::Seal(SuiteRecord& r) {
  r.mutable_suite()->set_etag(ComputeEtag(r.suite()));
}

std::string Table<ContributionRecord>::Name(const ContributionRecord& r) {
  return r.contribution().name();
}
std::vector<IndexEntry> Table<ContributionRecord>::Indexes(
    const ContributionRecord& r) {
  const auto& c = r.contribution();
  std::vector<IndexEntry> entries = {
      {kContributionByState, v1::Contribution::State_Name(c.state())},
      {kContributionByDigest, ContributionDigestValue(r.model(), c.digest())}};
  if (c.state() == v1::Contribution::QUEUED) {
    entries.push_back({kQueue, absl::StrFormat("%s%020d", QueueValue(r.model()),
                                               r.queue_position())});
  }
  return entries;
}
absl::Status Table<ContributionRecord>::Check(const ContributionRecord* before,
                                              const ContributionRecord& after) {
  auto from = before == nullptr ? v1::Contribution::STATE_UNSPECIFIED
                                : before->contribution().state();
  return CheckMove<v1::Contribution::State>(Name(after), &from,
                                            after.contribution().state(),
                                            &v1::Contribution::State_Name);
}
void Table<ContributionRecord>::Seal(ContributionRecord& r) {
  r.mutable_contribution()->set_etag(ComputeEtag(r.contribution()));
}

std::string Table<BatchRecord>::Name(const BatchRecord& r) {
  return r.batch().name();
}
std::vector<IndexEntry> Table<BatchRecord>::Indexes(const BatchRecord& r) {
  if (IsOver(r.batch().state())) return {};
  return {{kOpenBatch, r.model()}};
}
absl::Status Table<BatchRecord>::Check(const BatchRecord* before,
                                       const BatchRecord& after) {
  auto from = before == nullptr ? v1::Batch::STATE_UNSPECIFIED
                                : before->batch().state();
  return CheckMove<v1::Batch::State>(Name(after), &from, after.batch().state(),
                                     &v1::Batch::State_Name);
}
void Table<BatchRecord>::Seal(BatchRecord& r) {
  r.mutable_batch()->set_etag(ComputeEtag(r.batch()));
}

std::string Table<JobRecord>::Name(const JobRecord& r) { return r.name(); }
std::vector<IndexEntry> Table<JobRecord>::Indexes(const JobRecord& r) {
  return {{kJobByState, JobRecord::State_Name(r.state())}};
}
absl::Status Table<JobRecord>::Check(const JobRecord* before,
                                     const JobRecord& after) {
  auto from =
      before == nullptr ? JobRecord::STATE_UNSPECIFIED : before->state();
  return CheckMove<JobRecord::State>(Name(after), &from, after.state(),
                                     &JobRecord::State_Name);
}

std::string Table<SessionRecord>::Name(const SessionRecord& r) {
  return r.name();
}

std::string Table<BaseScoresRecord>::Name(const BaseScoresRecord& r) {
  return absl::StrCat(Hex(r.digest()), "/", r.scores().suite(), "/",
                      r.scores().suite_version(), "/", r.scores().split(), "/",
                      r.dtype(), "/", r.device_class());
}

std::string Table<LedgerRecord>::Name(const LedgerRecord& r) {
  return absl::StrCat(r.user(), "/", r.model(), "/", r.day());
}

std::string Table<HoldoutRecord>::Name(const HoldoutRecord& r) {
  return absl::StrCat(r.suite(), "/", r.epoch(), "/", r.organisation());
}

std::string Table<FingerprintRecord>::Name(const FingerprintRecord& r) {
  return r.contribution();
}

std::string Table<ReplayRecord>::Name(const ReplayRecord& r) {
  return r.replay().name();
}
std::vector<IndexEntry> Table<ReplayRecord>::Indexes(const ReplayRecord& r) {
  if (r.replay().done()) return {};
  return {{kOpenReplay, ""}};
}

std::string Table<DeltaRecord>::Name(const DeltaRecord& r) {
  return r.delta().name();
}
std::vector<IndexEntry> Table<DeltaRecord>::Indexes(const DeltaRecord& r) {
  if (r.delta().state() != v1::Delta::PENDING) return {};
  return {{kOpenDelta, std::string(ModelOf(r.delta().name()))}};
}

std::string Table<UserRecord>::Name(const UserRecord& r) {
  return r.user().name();
}
void Table<UserRecord>::Seal(UserRecord& r) {
  r.mutable_user()->set_etag(ComputeEtag(r.user()));
}

std::string Table<TokenRecord>::Name(const TokenRecord& r) {
  return r.secret_sha256();
}
std::vector<IndexEntry> Table<TokenRecord>::Indexes(const TokenRecord& r) {
  return {{kTokenByUser, r.user()}};
}

std::string Table<EventRecord>::Name(const EventRecord& r) {
  return EventName(r.model(), r.event().sequence());
}

std::string Table<RequestRecord>::Name(const RequestRecord& r) {
  return absl::StrCat(r.user(), "/", r.method(), "/", r.request_id());
}

}  // namespace cairn
