#include "server/release/model_catalog.h"

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/failpoint.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/release/file_policy.h"
#include "server/auth/permission.h"
#include "server/flow/blob_ownership.h"
#include "server/flow/contribution_state.h"
#include "server/flow/policy_rules.h"
#include "server/flow/resource_names.h"
#include "server/release/checkpoint_import.h"
#include "server/release/release_builder.h"
#include "server/release/tag_table.h"

namespace cairn {
namespace {

using store::v1::ModelRecord;
using store::v1::ReleaseRecord;
using store::v1::SuiteRecord;
using store::v1::TagRecord;

constexpr char kStableTag[] = "stable";
constexpr char kFirstVersion[] = "v1.0.0";

// The model as it is shown: with its head and tags.
absl::StatusOr<v1::Model> Present(const HubReader& reader, ModelRecord record) {
  v1::Model model = std::move(*record.mutable_model());
  CAIRN_ASSIGN_OR_RETURN(auto tags, reader.ListAll<TagRecord>(
                                        absl::StrCat(model.name(), "/tags/")));
  for (TagRecord& tag : tags) {
    if (ShortName(tag.tag().name()) == kLatestTag) {
      model.set_head(tag.tag().release());
    }
    *model.add_tags() = std::move(*tag.mutable_tag());
  }
  return model;
}

absl::Status ClaimSegments(const HubReader& reader, BlobStore& blobs,
                           const Caller& caller,
                           const v1::CreateModelRequest& request) {
  std::set<Digest> named;
  for (const v1::ModelFile& file : request.files()) {
    for (const std::string& sha256 : file.segments()) {
      auto digest = Digest::Parse(sha256);
      if (!digest.ok()) {
        return ReasonedError(
            absl::StatusCode::kInvalidArgument, "MALFORMED_FILE",
            absl::StrCat(file.file().path(), ": segment '", sha256,
                         "' is not a SHA-256 of 64 hex digits"),
            {{"file", file.file().path()}});
      }
      named.insert(*digest);
    }
  }
  std::vector<Digest> digests(named.begin(), named.end());
  return ClaimBlobs(reader, blobs, caller.user, digests).status();
}

// The model that is there already, if the request describes the same one.
absl::StatusOr<v1::Model> SameModel(const HubReader& reader,
                                    const ModelRecord& there,
                                    const Caller& caller,
                                    const ReleaseRecord& wanted) {
  CAIRN_ASSIGN_OR_RETURN(auto first,
                         reader.Find<ReleaseRecord>(wanted.release().name()));
  if (there.creator() != caller.user || !first.has_value() ||
      first->release().digest() != wanted.release().digest()) {
    return absl::AlreadyExistsError(absl::StrCat(
        there.model().name(), " exists already; choose another name"));
  }
  return Present(reader, there);
}

absl::Status PutTag(HubTransaction& txn, const ModelName& model,
                    absl::string_view id, const std::string& release) {
  TagRecord record;
  record.mutable_tag()->set_name(absl::StrCat(TagName::Parent(model), id));
  record.mutable_tag()->set_release(release);
  *record.mutable_tag()->mutable_update_time() = ToTimestamp(txn.now());
  return txn.Put(record);
}

absl::Status PutModel(HubTransaction& txn, const Caller& caller,
                      const ModelName& name, const v1::Policy& policy,
                      const std::string& license, ReleaseRecord release) {
  ModelRecord record;
  v1::Model& model = *record.mutable_model();
  model.set_name(name.full());
  model.set_repo_id(absl::StrCat("cairn/", name.id()));
  *model.mutable_policy() = policy;
  model.set_license(license);
  *model.mutable_create_time() = ToTimestamp(txn.now());
  record.set_creator(caller.user);
  const std::string first = release.release().name();
  CAIRN_RETURN_IF_ERROR(txn.Put(release));
  CAIRN_RETURN_IF_ERROR(PutTag(txn, name, kLatestTag, first));
  CAIRN_RETURN_IF_ERROR(PutTag(txn, name, kStableTag, first));
  CAIRN_RETURN_IF_ERROR(txn.Put(record));
  v1::Event event;
  event.set_kind("model.created");
  event.set_subject(name.full());
  event.set_actor(caller.user);
  event.set_message(absl::StrCat(name.id(), " created as ", kFirstVersion));
  event.add_related(first);
  return txn.AppendEvent(name.full(), std::move(event));
}

// TorchScript is code: the maintainer says that it is wanted.
absl::Status CheckCode(const CheckpointFiles& checkpoint,
                       const v1::Policy& policy) {
  for (const v1::File& file : checkpoint.files) {
    if (file.path() != kTorchScriptFile || policy.torchscript()) continue;
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, "FORBIDDEN_FILE",
        absl::StrCat(kTorchScriptFile,
                     " is code, which workers would run; leave it out, or "
                     "create the model with `torchscript: true` in its "
                     "policy"),
        {{"file", kTorchScriptFile}});
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::Model> ModelCatalog::Create(
    const Caller& caller, const v1::CreateModelRequest& request) {
  return Make(
      caller, request, {.method = "CreateModel", .message = request},
      [&](const HubReader& reader) -> absl::StatusOr<CheckpointFiles> {
        CAIRN_RETURN_IF_ERROR(ClaimSegments(reader, blobs_, caller, request));
        return ImportCheckpoint(blobs_, request.files());
      });
}

absl::StatusOr<v1::Model> ModelCatalog::Import(
    const Caller& caller, const v1::CreateModelRequest& request,
    const google::protobuf::Message& message, const FileMap& files) {
  return Make(caller, request, {.method = "ImportModel", .message = message},
              [&](const HubReader&) { return ImportSources(blobs_, files); });
}

absl::StatusOr<v1::Model> ModelCatalog::Make(
    const Caller& caller, const v1::CreateModelRequest& request,
    const Origin& origin,
    const std::function<absl::StatusOr<CheckpointFiles>(const HubReader&)>&
        load) {
  if (!IsChosenId(request.model_id())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "model_id '", request.model_id(),
        "' is not 1 to 64 lower-case letters, digits, '-', '_' or '.', "
        "beginning with a letter or digit"));
  }
  CAIRN_ASSIGN_OR_RETURN(ModelName name, ModelName::From(request.model_id()));
  CAIRN_RETURN_IF_ERROR(
      Authorize(caller, Permission::kManageModels, name.full()));
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(
      auto replayed,
      snapshot.Replayed<v1::Model>(caller.user, origin.method,
                                   request.request_id(), origin.message));
  if (replayed.has_value()) return *std::move(replayed);
  CAIRN_RETURN_IF_ERROR(CheckLicense(request.license()));
  CAIRN_ASSIGN_OR_RETURN(v1::Policy policy, CompletePolicy(request.policy()));
  CAIRN_ASSIGN_OR_RETURN(CheckpointFiles checkpoint, load(snapshot));
  CAIRN_RETURN_IF_ERROR(CheckCode(checkpoint, policy));
  ReleaseContent content{.model = name,
                         .version = ReleaseVersion(),
                         .origin = ReleaseRecord::IMPORTED,
                         .parent = "",
                         .parent_digest = "",
                         .checkpoint = std::move(checkpoint),
                         .contributions = {},
                         .added = {},
                         .merge_record = std::nullopt,
                         .reports = {},
                         .license = request.license(),
                         .attribution = std::nullopt};
  CAIRN_ASSIGN_OR_RETURN(
      ReleaseRecord release,
      BuildRelease(blobs_, signer_, content, store_.clock().Now()));
  release.set_root_release(release.release().name());

  v1::Model model;
  absl::Status created =
      store_.Transact([&](HubTransaction& txn) -> absl::Status {
        CAIRN_ASSIGN_OR_RETURN(auto there, txn.Find<ModelRecord>(name.full()));
        if (there.has_value()) {
          CAIRN_ASSIGN_OR_RETURN(model,
                                 SameModel(txn, *there, caller, release));
          return absl::OkStatus();
        }
        CAIRN_RETURN_IF_ERROR(
            PutModel(txn, caller, name, policy, request.license(), release));
        CAIRN_ASSIGN_OR_RETURN(auto written, txn.Get<ModelRecord>(name.full()));
        CAIRN_ASSIGN_OR_RETURN(model, Present(txn, std::move(written)));
        return txn.Remember(caller.user, origin.method, request.request_id(),
                            origin.message, model);
      });
  if (!created.ok()) return created;
  CAIRN_RETURN_IF_ERROR(Failpoint("release.created"));
  return model;
}

absl::StatusOr<v1::Model> ModelCatalog::Get(
    const Caller& caller, const v1::GetModelRequest& request) const {
  CAIRN_ASSIGN_OR_RETURN(ModelName name, ModelName::Parse(request.name()));
  HubSnapshot snapshot = store_.Read();
  CAIRN_RETURN_IF_ERROR(
      AuthorizeRead(snapshot, caller, Permission::kRead, name.full()));
  CAIRN_ASSIGN_OR_RETURN(auto record, snapshot.Get<ModelRecord>(name.full()));
  return Present(snapshot, std::move(record));
}

absl::StatusOr<v1::ListModelsResponse> ModelCatalog::List(
    const Caller& caller, const v1::ListModelsRequest& request) const {
  HubSnapshot snapshot = store_.Read();
  auto is_readable = [&](const ModelRecord& record) {
    return record.model().policy().public_() ||
           Authorize(caller, Permission::kRead, record.model().name()).ok();
  };
  CAIRN_ASSIGN_OR_RETURN(
      auto page,
      snapshot.List<ModelRecord>(
          "models/", {request.page_size(), request.page_token()}, is_readable));
  if (page.records.empty() && caller.is_anonymous()) {
    // Nothing is public: say what is missing rather than "no models".
    return Authorize(caller, Permission::kRead, "");
  }
  v1::ListModelsResponse response;
  for (ModelRecord& record : page.records) {
    CAIRN_ASSIGN_OR_RETURN(*response.add_items(),
                           Present(snapshot, std::move(record)));
  }
  response.set_next_page_token(page.next_token);
  return response;
}

absl::StatusOr<v1::Model> ModelCatalog::SetPolicy(
    const Caller& caller, const v1::SetPolicyRequest& request) {
  CAIRN_ASSIGN_OR_RETURN(ModelName name, ModelName::Parse(request.name()));
  CAIRN_RETURN_IF_ERROR(
      Authorize(caller, Permission::kManageModels, name.full()));
  CAIRN_ASSIGN_OR_RETURN(v1::Policy policy, CompletePolicy(request.policy()));
  v1::Model model;
  absl::Status changed =
      store_.Transact([&](HubTransaction& txn) -> absl::Status {
        CAIRN_ASSIGN_OR_RETURN(auto record, txn.Get<ModelRecord>(name.full()));
        CAIRN_RETURN_IF_ERROR(
            CheckEtag(name.full(), record.model().etag(), request.etag()));
        *record.mutable_model()->mutable_policy() = policy;
        CAIRN_RETURN_IF_ERROR(txn.Put(record));
        CAIRN_ASSIGN_OR_RETURN(auto suites, txn.NewestSuites(name.full()));
        for (SuiteRecord& suite : suites) {
          if (suite.own_margin()) continue;
          suite.mutable_suite()->set_margin(PolicyMargin(
              policy, suite.suite().metric(), suite.suite().protected_()));
          CAIRN_RETURN_IF_ERROR(txn.Put(suite));
        }
        v1::Event event;
        event.set_kind("model.policy_changed");
        event.set_subject(name.full());
        event.set_actor(caller.user);
        event.set_message("policy replaced");
        CAIRN_RETURN_IF_ERROR(txn.AppendEvent(name.full(), std::move(event)));
        CAIRN_ASSIGN_OR_RETURN(model, Present(txn, std::move(record)));
        return absl::OkStatus();
      });
  if (!changed.ok()) return changed;
  return model;
}

}  // namespace cairn
