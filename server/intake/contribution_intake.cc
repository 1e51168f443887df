#include "server/intake/contribution_intake.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/failpoint.h"
#include "core/base/status_util.h"
#include "core/tensor/tensor_manifest.h"
#include "core/update/manifest.h"
#include "core/update/base_model.h"
#include "core/update/update.h"
#include "server/flow/blob_ownership.h"
#include "server/flow/contribution_state.h"
#include "server/flow/reasons.h"
#include "server/flow/resource_names.h"
#include "server/flow/stored_files.h"
#include "server/gate/holdout.h"

namespace cairn {
namespace {

using store::v1::ContributionRecord;
using store::v1::ModelRecord;
using store::v1::ReleaseRecord;
using store::v1::SuiteRecord;

constexpr char kMethod[] = "CreateContribution";
constexpr size_t kManifestBytesMax = 1 << 20;
// An update beside its base: more than every tensor twice is no update. Small
// bases leave room for adapters of high rank all the same.
constexpr int64_t kUpdateRatioMax = 2;
constexpr int64_t kUpdateBytesAlways = 64 << 20;

absl::Status Invalid(absl::string_view reason, const std::string& message) {
  return ReasonedError(absl::StatusCode::kInvalidArgument, reason, message);
}

absl::Status CheckLicense(const v1::Policy& policy, std::string& license) {
  if (license.empty() && policy.default_license() != "none") {
    license = policy.default_license();
  }
  const std::string accepted = absl::StrJoin(policy.licenses(), ", ");
  if (license.empty()) {
    return Invalid("LICENSE_MISSING",
                   absl::StrCat("the update has no licence; give one of ",
                                accepted, " with --license"));
  }
  if (std::find(policy.licenses().begin(), policy.licenses().end(), license) ==
      policy.licenses().end()) {
    return Invalid(
        "LICENSE_NOT_ALLOWED",
        absl::StrCat("licence '", license,
                     "' is not accepted here; these are: ", accepted));
  }
  return absl::OkStatus();
}

// Signed by the caller's registered key, or by nobody where that is enough.
absl::Status CheckSignature(const Caller& caller, const v1::Policy& policy,
                            const v1::CreateContributionRequest& request,
                            const v1::ContributionManifest& manifest) {
  if (request.signature().empty()) {
    if (!policy.require_author_signature()) return absl::OkStatus();
    return Invalid("SIGNATURE_INVALID",
                   "the policy asks for the author's signature; register a "
                   "key with 'cairn identity register' and push again");
  }
  if (caller.public_key.empty()) {
    return Invalid("SIGNATURE_INVALID",
                   absl::StrCat(caller.user,
                                " has no registered key; run 'cairn identity "
                                "register' first"));
  }
  if (manifest.author_key() != caller.public_key) {
    return Invalid(
        "SIGNATURE_INVALID",
        absl::StrCat("the manifest names the key ", manifest.author_key(),
                     ", but ", caller.user, " registered ", caller.public_key));
  }
  return VerifyManifest(manifest, request.manifest(), request.signature());
}

absl::Status CheckClaims(const HubReader& reader, const std::string& model,
                         const v1::ContributionManifest& manifest) {
  if (manifest.claims().empty()) return absl::OkStatus();
  CAIRN_ASSIGN_OR_RETURN(auto suites, reader.NewestSuites(model));
  std::vector<std::string> names;
  for (const SuiteRecord& suite : suites) {
    names.push_back(std::string(ShortName(suite.suite().name())));
  }
  for (const std::string& claim : manifest.claims()) {
    if (std::find(names.begin(), names.end(), claim) == names.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("claims: ", model, " has no suite '", claim,
                       "'; it has: ", absl::StrJoin(names, ", ")));
    }
  }
  return absl::OkStatus();
}

// The release that the update was made on.
absl::StatusOr<ReleaseRecord> FindBase(
    const HubReader& reader, const std::string& model,
    const v1::ContributionManifest& manifest) {
  auto mismatch = [&](const std::string& message) {
    return ReasonedError(absl::StatusCode::kFailedPrecondition,
                         "BASE_DIGEST_MISMATCH", message,
                         {{"base_digest", manifest.base_digest()}});
  };
  CAIRN_ASSIGN_OR_RETURN(auto name,
                         ReleaseName::Parse(manifest.base_release()));
  CAIRN_ASSIGN_OR_RETURN(auto base, reader.Find<ReleaseRecord>(name.full()));
  if (!base.has_value() || name.model().full() != model) {
    return mismatch(absl::StrCat(manifest.base_release(), " is no release of ",
                                 model,
                                 "; train on one that is, or name it with "
                                 "--base"));
  }
  if (base->release().digest() != manifest.base_digest()) {
    return mismatch(absl::StrCat(
        "the update was made on weights of digest ", manifest.base_digest(),
        ", but ", name.full(), " has ", base->release().digest(),
        "; name the release it was trained on with --base"));
  }
  return *std::move(base);
}

absl::Status IsDuplicate() {
  return ReasonedError(absl::StatusCode::kAlreadyExists, "DUPLICATE",
                       "the same update was contributed already; there is "
                       "nothing to add to it");
}

// A live contribution of the same update on the same base: the caller's own,
// or any other's.
absl::StatusOr<std::optional<ContributionRecord>> FindSame(
    const HubReader& reader, const std::string& model,
    const v1::ContributionManifest& manifest, const Caller& caller, bool own) {
  CAIRN_ASSIGN_OR_RETURN(
      auto same, reader.FindBy<ContributionRecord>(
                     kContributionByDigest,
                     ContributionDigestValue(model, manifest.update_digest())));
  for (ContributionRecord& record : same) {
    if (IsLive(record.contribution().state()) &&
        record.base_digest() == manifest.base_digest() &&
        (record.contribution().author() == caller.user) == own) {
      return std::optional<ContributionRecord>(std::move(record));
    }
  }
  return std::optional<ContributionRecord>();
}

absl::Status CheckAttempts(const HubReader& reader, const Caller& caller,
                           const ModelRecord& model, absl::Time now) {
  const v1::Policy& policy = model.model().policy();
  CAIRN_ASSIGN_OR_RETURN(
      int32_t left,
      AttemptsLeft(reader, caller.user, model.model().name(), policy, now));
  if (left <= 0) {
    return ReasonedError(
        absl::StatusCode::kFailedPrecondition, "HOLDOUT_EXHAUSTED",
        absl::StrCat(
            "all attempts of today (UTC) are used: ", policy.attempts_per_day(),
            " a person, ", policy.organisation_attempts_per_day(),
            " an organisation; push again tomorrow"));
  }
  return CheckHoldoutLeft(reader, model.model().name(), policy);
}

v1::Contribution Describe(const v1::ContributionManifest& manifest,
                          const Caller& caller, const std::string& license,
                          bool is_signed) {
  v1::Contribution contribution;
  contribution.set_base_release(manifest.base_release());
  contribution.set_encoding(manifest.encoding());
  contribution.set_digest(manifest.update_digest());
  int64_t size_bytes = 0;
  for (const v1::File& file : manifest.files()) {
    size_bytes += file.size_bytes();
  }
  contribution.set_size_bytes(size_bytes);
  contribution.set_author(caller.user);
  contribution.set_title(manifest.title());
  contribution.set_license(license);
  *contribution.mutable_claims() = manifest.claims();
  *contribution.mutable_files() = manifest.files();
  if (manifest.has_recipe()) {
    *contribution.mutable_recipe() = manifest.recipe();
  }
  contribution.set_attested_by(is_signed ? "author" : "hub");
  contribution.set_base_inferred(manifest.base_inferred());
  return contribution;
}

}  // namespace

ContributionIntake::ContributionIntake(HubStore& store, BlobStore& blobs,
                                       const WorkerPresence& workers,
                                       std::string hub_id, QuotaDefaults quota)
    : store_(store),
      blobs_(blobs),
      workers_(workers),
      hub_id_(std::move(hub_id)),
      quota_(std::move(quota)) {}

absl::StatusOr<v1::Contribution> ContributionIntake::Create(
    const Caller& caller, const v1::CreateContributionRequest& request) {
  CAIRN_ASSIGN_OR_RETURN(auto parent, ModelName::Parse(request.parent()));
  if (request.manifest().size() > kManifestBytesMax) {
    return Invalid("LIMIT_EXCEEDED",
                   absl::StrCat("manifest has ", request.manifest().size(),
                                " bytes; at most ", kManifestBytesMax));
  }
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(
      auto replayed, snapshot.Replayed<v1::Contribution>(
                         caller.user, kMethod, request.request_id(), request));
  CAIRN_ASSIGN_OR_RETURN(auto model, snapshot.Get<ModelRecord>(parent.full()));
  auto view = [&](const HubReader& reader, const ContributionRecord& record) {
    return ViewContribution(reader, workers_, record, Figures::kRounded,
                            caller.user, store_.clock().Now());
  };
  if (replayed.has_value()) {
    CAIRN_ASSIGN_OR_RETURN(auto now,
                           snapshot.Get<ContributionRecord>(replayed->name()));
    return view(snapshot, now);
  }
  CAIRN_ASSIGN_OR_RETURN(auto manifest, ParseManifest(request.manifest()));
  CAIRN_ASSIGN_OR_RETURN(auto own,
                         FindSame(snapshot, parent.full(), manifest, caller,
                                  /*own=*/true));
  if (own.has_value()) return view(snapshot, *own);
  CAIRN_ASSIGN_OR_RETURN(ContributionRecord record,
                         Check(snapshot, caller, request, manifest));
  CAIRN_RETURN_IF_ERROR(
      CheckAttempts(snapshot, caller, model, store_.clock().Now()));
  if (request.validate_only()) return view(snapshot, record);

  std::optional<ContributionRecord> stored;
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    // Once more, where no other call can come between.
    CAIRN_ASSIGN_OR_RETURN(stored, FindSame(transaction, parent.full(),
                                            manifest, caller, /*own=*/true));
    if (stored.has_value()) return absl::OkStatus();
    CAIRN_ASSIGN_OR_RETURN(
        auto other, FindSame(transaction, parent.full(), manifest, caller,
                             /*own=*/false));
    if (other.has_value()) return IsDuplicate();
    CAIRN_RETURN_IF_ERROR(
        CheckAttempts(transaction, caller, model, transaction.now()));
    stored = record;
    return Store(transaction, caller, request, *stored);
  });
  if (!committed.ok()) return committed;
  CAIRN_RETURN_IF_ERROR(Failpoint("contribution.created"));
  return view(store_.Read(), *stored);
}

absl::StatusOr<ContributionRecord> ContributionIntake::Check(
    const HubReader& reader, const Caller& caller,
    const v1::CreateContributionRequest& request,
    const v1::ContributionManifest& manifest) const {
  const std::string& parent = request.parent();
  if (manifest.model() != parent || manifest.hub_id() != hub_id_) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the manifest is made for ", manifest.model(), " of hub ",
        manifest.hub_id(), ", not for ", parent, " of hub ", hub_id_));
  }
  CAIRN_ASSIGN_OR_RETURN(auto model, reader.Get<ModelRecord>(parent));
  const v1::Policy& policy = model.model().policy();
  CAIRN_RETURN_IF_ERROR(CheckSignature(caller, policy, request, manifest));
  CAIRN_RETURN_IF_ERROR(CheckClaims(reader, parent, manifest));
  std::string license = manifest.license();
  CAIRN_RETURN_IF_ERROR(CheckLicense(policy, license));
  CAIRN_ASSIGN_OR_RETURN(auto base, FindBase(reader, parent, manifest));

  // From here on the caller has shown that the bytes are its own.
  std::vector<Digest> digests;
  for (const v1::File& file : manifest.files()) {
    CAIRN_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(file.sha256()));
    digests.push_back(digest);
  }
  CAIRN_RETURN_IF_ERROR(
      ClaimBlobs(reader, blobs_, caller.user, digests).status());
  CAIRN_ASSIGN_OR_RETURN(
      auto other, FindSame(reader, parent, manifest, caller, /*own=*/false));
  if (other.has_value()) return IsDuplicate();

  ContributionRecord record;
  *record.mutable_contribution() =
      Describe(manifest, caller, license, !request.signature().empty());
  record.set_manifest(request.manifest());
  record.set_signature(request.signature());
  record.set_model(parent);
  record.set_base_digest(manifest.base_digest());
  CAIRN_RETURN_IF_ERROR(CheckUpdate(base, manifest, record));
  return record;
}

absl::Status ContributionIntake::CheckUpdate(
    const ReleaseRecord& base, const v1::ContributionManifest& manifest,
    ContributionRecord& record) const {
  const int64_t most =
      std::max(kUpdateBytesAlways, kUpdateRatioMax * base.tensor_bytes());
  const int64_t size_bytes = record.contribution().size_bytes();
  if (base.tensor_bytes() > 0 && size_bytes > most) {
    return Invalid(
        "LIMIT_EXCEEDED",
        absl::StrCat("the update has ", size_bytes, " bytes; at most ", most,
                     " are taken for a base of ", base.tensor_bytes(),
                     " bytes, as ", base.release().name(), " is"));
  }
  CAIRN_ASSIGN_OR_RETURN(auto files, OpenStoredFiles(blobs_, manifest.files()));
  CAIRN_ASSIGN_OR_RETURN(
      auto tensors,
      ReadTensorManifest(blobs_, base.release().tensor_manifest_sha256()));
  CAIRN_ASSIGN_OR_RETURN(const std::string config,
                         ReadConfig(blobs_, base.release()));
  const BaseModel model = {.tensors = &tensors, .config_json = config};
  CAIRN_ASSIGN_OR_RETURN(auto update, OpenUpdate(files, &model));
  if (update->encoding() != manifest.encoding()) {
    return Invalid("MALFORMED_FILE",
                   absl::StrCat("the manifest says ",
                                v1::Encoding::Kind_Name(manifest.encoding()),
                                ", but the files are ",
                                v1::Encoding::Kind_Name(update->encoding())));
  }
  CAIRN_RETURN_IF_ERROR(
      CheckAgainstBase(*update, tensors, base.release().digest()));
  if (TouchesEmbeddingsOrHead(*update)) {
    record.add_traits("embeddings_or_head");
  }
  return absl::OkStatus();
}

absl::Status ContributionIntake::Store(
    HubTransaction& transaction, const Caller& caller,
    const v1::CreateContributionRequest& request,
    ContributionRecord& record) const {
  const std::string& model = request.parent();
  CAIRN_ASSIGN_OR_RETURN(int64_t number, transaction.NextNumber(absl::StrCat(
                                             model, "/contributions")));
  v1::Contribution& contribution = *record.mutable_contribution();
  contribution.set_name(absl::StrCat(model, "/contributions/c", number));
  *contribution.mutable_create_time() = ToTimestamp(transaction.now());
  *contribution.add_verdicts() =
      MakeVerdict("intake", v1::Verdict::PASS, {}, transaction.now());
  CAIRN_RETURN_IF_ERROR(
      Move(record, v1::Contribution::RECEIVED, transaction.now()));
  CAIRN_RETURN_IF_ERROR(transaction.Put(record));
  CAIRN_RETURN_IF_ERROR(ChargeAttempt(transaction, caller.user, model));
  CAIRN_RETURN_IF_ERROR(ChargeContribution(transaction, quota_, caller.user));
  v1::Event event;
  event.set_kind("contribution.received");
  event.set_subject(contribution.name());
  event.set_actor(caller.user);
  event.set_message(contribution.title().empty() ? "a new contribution"
                                                 : contribution.title());
  CAIRN_RETURN_IF_ERROR(transaction.AppendEvent(model, std::move(event)));
  return transaction.Remember(caller.user, kMethod, request.request_id(),
                              request, contribution);
}

absl::StatusOr<v1::Contribution> ContributionIntake::Get(
    const Caller& caller, const v1::GetContributionRequest& request,
    Figures figures) const {
  CAIRN_ASSIGN_OR_RETURN(auto name, ContributionName::Parse(request.name()));
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto record,
                         snapshot.Get<ContributionRecord>(name.full()));
  return ViewContribution(snapshot, workers_, record, figures, caller.user,
                          store_.clock().Now());
}

absl::StatusOr<v1::ListContributionsResponse> ContributionIntake::List(
    const Caller& caller, const v1::ListContributionsRequest& request,
    Figures figures) const {
  CAIRN_ASSIGN_OR_RETURN(auto parent, ModelName::Parse(request.parent()));
  HubSnapshot snapshot = store_.Read();
  CAIRN_RETURN_IF_ERROR(snapshot.Get<ModelRecord>(parent.full()));
  auto is_wanted = [&](const ContributionRecord& record) {
    return request.states().empty() ||
           std::find(request.states().begin(), request.states().end(),
                     static_cast<int>(record.contribution().state())) !=
               request.states().end();
  };
  CAIRN_ASSIGN_OR_RETURN(auto page, snapshot.List<ContributionRecord>(
                                        ContributionName::Parent(parent),
                                        {.size = request.page_size(),
                                         .token = request.page_token()},
                                        is_wanted));
  v1::ListContributionsResponse response;
  for (const ContributionRecord& record : page.records) {
    CAIRN_ASSIGN_OR_RETURN(*response.add_items(),
                           ViewContribution(snapshot, workers_, record, figures,
                                            caller.user, store_.clock().Now()));
  }
  response.set_next_page_token(page.next_token);
  return response;
}

absl::StatusOr<v1::Contribution> ContributionIntake::Withdraw(
    const Caller& caller, const v1::WithdrawContributionRequest& request) {
  CAIRN_ASSIGN_OR_RETURN(auto name, ContributionName::Parse(request.name()));
  ContributionRecord record;
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    CAIRN_ASSIGN_OR_RETURN(record,
                           transaction.Get<ContributionRecord>(name.full()));
    v1::Contribution& contribution = *record.mutable_contribution();
    if (contribution.author() != caller.user) {
      return ReasonedError(
          absl::StatusCode::kPermissionDenied, "NOT_PERMITTED",
          absl::StrCat("only its author may withdraw ", name.full()));
    }
    if (contribution.state() == v1::Contribution::WITHDRAWN) {
      return absl::OkStatus();
    }
    CAIRN_RETURN_IF_ERROR(
        CheckEtag(name.full(), contribution.etag(), request.etag()));
    CAIRN_RETURN_IF_ERROR(
        CancelJob(transaction, record.job(), "the contribution was withdrawn"));
    record.clear_job();
    contribution.set_held(false);
    CAIRN_RETURN_IF_ERROR(
        Move(record, v1::Contribution::WITHDRAWN, transaction.now()));
    CAIRN_RETURN_IF_ERROR(transaction.Put(record));
    v1::Event event;
    event.set_kind("contribution.withdrawn");
    event.set_subject(name.full());
    event.set_actor(caller.user);
    event.set_message("taken back by its author");
    return transaction.AppendEvent(record.model(), std::move(event));
  });
  if (!committed.ok()) return committed;
  return ViewContribution(store_.Read(), workers_, record, Figures::kRounded,
                          caller.user, store_.clock().Now());
}

}  // namespace cairn
