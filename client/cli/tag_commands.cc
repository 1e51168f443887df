#include "absl/strings/str_cat.h"
#include "cairn/v1/tag.grpc.pb.h"
#include "client/cli/command.h"
#include "client/cli/output.h"
#include "client/cli/paging.h"
#include "client/names.h"
#include "core/base/status_macros.h"

namespace cairn::cli {
namespace {

using v1::TagService;

struct TagOptions {
  std::string model;
  std::string tag;
  std::string release;
  std::string expect;
  std::string note;
};

std::string DescribeTag(const v1::Tag& tag) {
  return absl::StrCat(ShortName(tag.name()), " -> ", ShortName(tag.release()));
}

absl::StatusOr<std::string> TagName(const TagOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(std::string model, ModelName(options.model));
  return absl::StrCat(model, "/tags/", options.tag);
}

absl::StatusOr<v1::Tag> GetTag(HubChannel& hub, const std::string& name) {
  v1::GetTagRequest request;
  request.set_name(name);
  return hub.Call(&TagService::Stub::GetTag, request);
}

absl::Status ListTags(Session& session, const TagOptions& options) {
  v1::ListTagsRequest request;
  CAIRN_ASSIGN_OR_RETURN(*request.mutable_parent(), ModelName(options.model));
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(auto tags,
                         ListAll(*hub, &TagService::Stub::ListTags, request));
  PrintList(session, tags, [&] {
    Table table({"TAG", "RELEASE", "MOVED"});
    for (const v1::Tag& tag : tags) {
      table.Add({ShortName(tag.name()), ShortName(tag.release()),
                 FormatTime(tag.update_time())});
    }
    return table.Render();
  });
  return absl::OkStatus();
}

absl::Status SetTag(Session& session, const TagOptions& options) {
  v1::SetTagRequest request;
  CAIRN_ASSIGN_OR_RETURN(*request.mutable_name(), TagName(options));
  const std::string model = ModelOf(request.name());
  request.set_release(ReleaseName(model, options.release));
  if (!options.expect.empty()) {
    request.set_expect(ReleaseName(model, options.expect));
  }
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  auto before = GetTag(*hub, request.name());
  if (before.ok()) {
    request.set_etag(before->etag());
  } else if (!absl::IsNotFound(before.status())) {
    return before.status();
  }
  CAIRN_ASSIGN_OR_RETURN(
      v1::Tag tag,
      hub->Call(&TagService::Stub::SetTag, request, {.retry = Retry::kUnsent}));
  PrintResource(session, tag, [&] { return DescribeTag(tag); });
  return absl::OkStatus();
}

absl::Status DeleteTag(Session& session, const TagOptions& options) {
  v1::DeleteTagRequest request;
  CAIRN_ASSIGN_OR_RETURN(*request.mutable_name(), TagName(options));
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(v1::Tag before, GetTag(*hub, request.name()));
  request.set_etag(before.etag());
  CAIRN_RETURN_IF_ERROR(hub->Call(&TagService::Stub::DeleteTag, request,
                                  {.retry = Retry::kUnsent}));
  PrintResource(session, before,
                [&] { return absl::StrCat("deleted ", DescribeTag(before)); });
  return absl::OkStatus();
}

absl::Status Rollback(Session& session, const TagOptions& options) {
  v1::RollbackRequest request;
  CAIRN_ASSIGN_OR_RETURN(*request.mutable_name(), TagName(options));
  request.set_release(ReleaseName(ModelOf(request.name()), options.release));
  request.set_note(options.note);
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(v1::Tag before, GetTag(*hub, request.name()));
  request.set_etag(before.etag());
  CAIRN_ASSIGN_OR_RETURN(v1::Tag tag,
                         hub->Call(&TagService::Stub::Rollback, request,
                                   {.retry = Retry::kUnsent}));
  PrintResource(session, tag, [&] { return DescribeTag(tag); });
  return absl::OkStatus();
}

}  // namespace

void AddTagCommands(CommandLine& root) {
  CommandLine tag = root.Group("tag", "Movable names of releases");
  tag.Add<TagOptions>(
      "list", "List the tags of a model", "cairn tag list tiny-llama",
      [](Parameters& p, TagOptions& o) {
        p.Argument("MODEL", o.model, "The model");
      },
      ListTags);
  tag.Add<TagOptions>(
      "set", "Make or move a tag",
      "cairn tag set tiny-llama stable v1.2.0 --expect v1.1.0",
      [](Parameters& p, TagOptions& o) {
        p.Argument("MODEL", o.model, "The model");
        p.Argument("TAG", o.tag, "The tag");
        p.Argument("REF", o.release, "Version, tag or digest prefix");
        p.Option("--expect", o.expect, "Only if it names this release now");
      },
      SetTag);
  tag.Add<TagOptions>(
      "delete", "Delete a tag", "cairn tag delete tiny-llama candidate",
      [](Parameters& p, TagOptions& o) {
        p.Argument("MODEL", o.model, "The model");
        p.Argument("TAG", o.tag, "The tag");
      },
      DeleteTag);
  root.Add<TagOptions>(
      "rollback", "Move a tag back to an earlier release",
      "cairn rollback tiny-llama stable v1.1.0 --note 'regression seen in use'",
      [](Parameters& p, TagOptions& o) {
        p.Argument("MODEL", o.model, "The model");
        p.Argument("TAG", o.tag, "The tag");
        p.Argument("REF", o.release, "The release to go back to");
        p.RequiredOption("--note", o.note, "Why");
      },
      Rollback);
}

}  // namespace cairn::cli
