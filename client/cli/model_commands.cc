#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cairn/v1/exchange.grpc.pb.h"
#include "cairn/v1/model.grpc.pb.h"
#include "client/cli/command.h"
#include "client/cli/output.h"
#include "client/cli/paging.h"
#include "client/model_files.h"
#include "client/names.h"
#include "client/policy_yaml.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"

namespace cairn::cli {
namespace {

using v1::ModelService;

struct CreateOptions {
  std::string model;
  std::string from;
  std::string policy;
  std::string license;
  bool on_hub = false;
};

struct ModelOptions {
  std::string model;
  std::string policy;
};

absl::StatusOr<v1::Policy> ReadPolicy(const std::string& path) {
  CAIRN_ASSIGN_OR_RETURN(std::string text, ReadFile(path, 1 << 20));
  return ParsePolicy(text, path);
}

std::string DescribeModel(const v1::Model& model) {
  std::string out = absl::StrCat(
      "name     ", model.name(), "\nhead     ", ShortName(model.head()),
      "\nlicense  ", model.license(), "\ncreated  ",
      FormatTime(model.create_time()), "\ntags     ");
  absl::StrAppend(&out, absl::StrJoin(model.tags(), ", ",
                                      [](std::string* text, const v1::Tag& t) {
                                        absl::StrAppend(
                                            text, ShortName(t.name()), " -> ",
                                            ShortName(t.release()));
                                      }));
  absl::StrAppend(&out, "\npolicy   ",
                  ToJson(model.policy(), JsonStyle::kPretty));
  return out;
}

absl::StatusOr<ModelFiles> UploadModel(Session& session, HubChannel& hub,
                                       const std::string& directory) {
  CAIRN_ASSIGN_OR_RETURN(int64_t bytes, ModelBytes(directory));
  auto reading = session.Meter("reading", bytes);
  CAIRN_ASSIGN_OR_RETURN(
      ModelFiles files,
      ReadModelFiles(directory, [&](int64_t n) { reading->Add(n); }));
  reading.reset();
  if (!files.left_out.empty()) {
    session.Note(
        absl::StrCat("left out: ", absl::StrJoin(files.left_out, ", ")));
  }
  auto sending = session.Meter("sending", files.size_bytes);
  CAIRN_RETURN_IF_ERROR(
      UploadBlobs(hub, files.blobs, [&](int64_t n) { sending->Add(n); }));
  return files;
}

// From a directory that the hub reads itself.
absl::Status ImportModel(Session& session, HubChannel& hub,
                         v1::CreateModelRequest model,
                         const std::string& directory) {
  v1::ImportModelRequest request;
  *request.mutable_model() = std::move(model);
  request.set_directory(std::filesystem::absolute(directory));
  CAIRN_ASSIGN_OR_RETURN(v1::ImportModelResponse response,
                         hub.Call(&v1::ExchangeService::Stub::ImportModel,
                                  request, {.deadline = absl::Hours(2)}));
  if (!response.left_out().empty()) {
    session.Note(
        absl::StrCat("left out: ", absl::StrJoin(response.left_out(), ", ")));
  }
  PrintResource(session, response.model(),
                [&] { return DescribeModel(response.model()); });
  return absl::OkStatus();
}

absl::Status CreateModel(Session& session, const CreateOptions& options) {
  v1::CreateModelRequest request;
  CAIRN_ASSIGN_OR_RETURN(std::string name, ModelName(options.model));
  request.set_model_id(ShortName(name));
  if (!options.policy.empty()) {
    CAIRN_ASSIGN_OR_RETURN(*request.mutable_policy(),
                           ReadPolicy(options.policy));
  }
  request.set_license(options.license);
  request.set_request_id(ToHex(RandomBytes(16)));
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  if (options.on_hub) {
    return ImportModel(session, *hub, std::move(request), options.from);
  }
  CAIRN_ASSIGN_OR_RETURN(ModelFiles files,
                         UploadModel(session, *hub, options.from));
  for (v1::ModelFile& file : files.files) *request.add_files() = file;
  // The hub reads the whole checkpoint again before it answers.
  CAIRN_ASSIGN_OR_RETURN(v1::Model model,
                         hub->Call(&ModelService::Stub::CreateModel, request,
                                   {.deadline = absl::Minutes(30)}));
  PrintResource(session, model, [&] { return DescribeModel(model); });
  return absl::OkStatus();
}

absl::Status ListModels(Session& session) {
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(
      auto models,
      ListAll(*hub, &ModelService::Stub::ListModels, v1::ListModelsRequest()));
  PrintList(session, models, [&] {
    Table table({"MODEL", "HEAD", "LICENSE", "CREATED"});
    for (const v1::Model& model : models) {
      table.Add({model.name(), ShortName(model.head()), model.license(),
                 FormatTime(model.create_time())});
    }
    return table.Render();
  });
  return absl::OkStatus();
}

absl::StatusOr<v1::Model> GetModel(HubChannel& hub, const std::string& text) {
  v1::GetModelRequest request;
  CAIRN_ASSIGN_OR_RETURN(*request.mutable_name(), ModelName(text));
  return hub.Call(&ModelService::Stub::GetModel, request);
}

absl::Status ShowModel(Session& session, const ModelOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(v1::Model model, GetModel(*hub, options.model));
  PrintResource(session, model, [&] { return DescribeModel(model); });
  return absl::OkStatus();
}

absl::Status SetPolicy(Session& session, const ModelOptions& options) {
  v1::SetPolicyRequest request;
  CAIRN_ASSIGN_OR_RETURN(*request.mutable_policy(), ReadPolicy(options.policy));
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(v1::Model before, GetModel(*hub, options.model));
  request.set_name(before.name());
  request.set_etag(before.etag());
  CAIRN_ASSIGN_OR_RETURN(v1::Model model,
                         hub->Call(&ModelService::Stub::SetPolicy, request,
                                   {.retry = Retry::kUnsent}));
  PrintResource(session, model, [&] { return DescribeModel(model); });
  return absl::OkStatus();
}

}  // namespace

void AddModelCommands(CommandLine& root) {
  CommandLine model = root.Group("model", "Models: named lines of releases");
  model.Add<CreateOptions>(
      "create", "Create a model; the checkpoint becomes release v1.0.0",
      "cairn model create tiny-llama --from ./base --license Apache-2.0",
      [](Parameters& p, CreateOptions& o) {
        p.Argument("MODEL", o.model, "Name of the new model");
        p.RequiredOption("--from", o.from,
                         "Directory with config.json, *.safetensors and "
                         "tokenizer files");
        p.Option("--policy", o.policy, "Policy file (YAML)");
        p.Option("--license", o.license, "SPDX licence identifier");
        p.Flag("--on-hub", o.on_hub,
               "--from is a directory of the hub's machine, in the one that "
               "its setting storage.exchange opens; nothing is sent");
      },
      CreateModel);
  struct None {};
  model.Add<None>(
      "list", "List models", "cairn model list", [](Parameters&, None&) {},
      [](Session& session, const None&) { return ListModels(session); });
  model.Add<ModelOptions>(
      "show", "Show a model, its tags and its policy",
      "cairn model show tiny-llama",
      [](Parameters& p, ModelOptions& o) {
        p.Argument("MODEL", o.model, "The model");
      },
      ShowModel);
  model.Add<ModelOptions>(
      "set-policy", "Replace the policy of a model",
      "cairn model set-policy tiny-llama policy.yaml",
      [](Parameters& p, ModelOptions& o) {
        p.Argument("MODEL", o.model, "The model");
        p.Argument("FILE", o.policy, "Policy file (YAML)");
      },
      SetPolicy);
}

}  // namespace cairn::cli
