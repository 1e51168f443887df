#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "cairn/v1/suite.grpc.pb.h"
#include "client/cli/command.h"
#include "client/cli/output.h"
#include "client/cli/paging.h"
#include "client/hash_source.h"
#include "client/names.h"
#include "core/base/digest.h"
#include "core/base/status_macros.h"
#include "core/rpc/blob_upload.h"

namespace cairn::cli {
namespace {

using v1::SuiteService;

struct AddOptions {
  std::string model;
  std::string suite;
  std::string from;
  bool is_protected = false;
  bool is_canary = false;
  std::optional<double> margin;
};

struct SuiteOptions {
  std::string model;
  std::string suite;
};

absl::StatusOr<std::string> SuiteName(const std::string& model,
                                      const std::string& suite) {
  if (suite.empty()) return ItemName(model, "suites");
  CAIRN_ASSIGN_OR_RETURN(std::string parent, ModelName(model));
  return absl::StrCat(parent, "/suites/", ShortName(suite));
}

std::string DescribeSuite(const v1::Suite& suite) {
  std::string out = absl::StrCat(
      "name       ", suite.name(), "\nversion    ", suite.version(),
      "\nstate      ", v1::Suite::State_Name(suite.state()), "\nkind       ",
      suite.kind(), ", by ", suite.metric(), "\nprotected  ",
      suite.protected_() ? "yes" : "no", ", margin ", suite.margin(),
      suite.canary() ? ", a canary" : "", "\nitems      ", suite.items(),
      "\nepoch      ", suite.epoch(), ", ", suite.attempts_used(),
      " contributions judged, ", suite.attempts_left(), " left");
  if (suite.minimum_detectable_effect() > 0) {
    absl::StrAppendFormat(&out, "\nshows      true gains of %.2g %% and more",
                          100 * suite.minimum_detectable_effect());
    if (suite.minimum_detectable_effect() > suite.margin()) {
      absl::StrAppend(&out, ": more than its margin, so give it more items");
    }
  }
  for (const v1::Reason& reason : suite.reasons()) {
    absl::StrAppend(&out, "\n", v1::Reason::Code_Name(reason.code()), ": ",
                    reason.message());
  }
  return out;
}

absl::Status UploadSuite(Session& session, HubChannel& hub,
                         const std::string& directory,
                         v1::AddSuiteRequest& request) {
  CAIRN_ASSIGN_OR_RETURN(FileMap files, OpenDirectorySources(directory));
  std::vector<OutgoingBlob> blobs;
  int64_t total = 0;
  for (const auto& [path, source] : files) {
    if (absl::StartsWith(path, ".")) continue;
    CAIRN_ASSIGN_OR_RETURN(Digest sha256, HashSource(*source));
    v1::File& file = *request.add_files();
    file.set_path(path);
    file.set_size_bytes(source->size());
    file.set_sha256(sha256.hex());
    blobs.push_back({.sha256 = sha256,
                     .size_bytes = source->size(),
                     .source = source,
                     .offset = 0});
    total += source->size();
  }
  auto meter = session.Meter("sending", total);
  return UploadBlobs(hub, blobs, [&](int64_t n) { meter->Add(n); });
}

absl::Status AddSuite(Session& session, const AddOptions& options) {
  v1::AddSuiteRequest request;
  CAIRN_ASSIGN_OR_RETURN(*request.mutable_parent(), ModelName(options.model));
  request.set_suite_id(ShortName(options.suite));
  request.set_protected_(options.is_protected);
  request.set_canary(options.is_canary);
  if (options.margin.has_value()) request.set_margin(*options.margin);
  request.set_request_id(ToHex(RandomBytes(16)));
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_RETURN_IF_ERROR(UploadSuite(session, *hub, options.from, request));
  CAIRN_ASSIGN_OR_RETURN(v1::Suite suite,
                         hub->Call(&SuiteService::Stub::AddSuite, request,
                                   {.deadline = absl::Minutes(5)}));
  PrintResource(session, suite, [&] { return DescribeSuite(suite); });
  return absl::OkStatus();
}

absl::Status ListSuites(Session& session, const SuiteOptions& options) {
  v1::ListSuitesRequest request;
  CAIRN_ASSIGN_OR_RETURN(*request.mutable_parent(), ModelName(options.model));
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(
      auto suites, ListAll(*hub, &SuiteService::Stub::ListSuites, request));
  PrintList(session, suites, [&] {
    Table table({"SUITE", "VERSION", "STATE", "KIND", "METRIC", "PROTECTED",
                 "MARGIN", "ITEMS", "EPOCH", "LEFT"});
    for (const v1::Suite& suite : suites) {
      table.Add({ShortName(suite.name()), absl::StrCat(suite.version()),
                 v1::Suite::State_Name(suite.state()), suite.kind(),
                 suite.metric(), suite.protected_() ? "yes" : "no",
                 absl::StrCat(suite.margin()), absl::StrCat(suite.items()),
                 absl::StrCat(suite.epoch()),
                 absl::StrCat(suite.attempts_left())});
    }
    return table.Render();
  });
  return absl::OkStatus();
}

absl::Status ShowSuite(Session& session, const SuiteOptions& options) {
  v1::GetSuiteRequest request;
  CAIRN_ASSIGN_OR_RETURN(*request.mutable_name(),
                         SuiteName(options.model, options.suite));
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(v1::Suite suite,
                         hub->Call(&SuiteService::Stub::GetSuite, request));
  PrintResource(session, suite, [&] { return DescribeSuite(suite); });
  return absl::OkStatus();
}

}  // namespace

void AddSuiteCommands(CommandLine& root) {
  CommandLine suite = root.Group("suite", "Held-out evaluation suites");
  suite.Add<AddOptions>(
      "add", "Add a suite to a model, or a new version of one",
      "cairn suite add tiny-llama prose --from ./prose --protected "
      "--margin 0.02",
      [](Parameters& p, AddOptions& o) {
        p.Argument("MODEL", o.model, "The model");
        p.Argument("SUITE", o.suite, "Short name of the suite");
        p.RequiredOption("--from", o.from,
                         "Directory with suite.yaml and its JSONL files");
        p.Flag("--protected", o.is_protected,
               "No release may lose more than the margin on it");
        p.Flag("--canary", o.is_canary,
               "Nobody should get better at it: planted strings or triggers");
        p.Option("--margin", o.margin, "Margin (default: the policy's)");
      },
      AddSuite);
  suite.Add<SuiteOptions>(
      "list", "List the suites of a model", "cairn suite list tiny-llama",
      [](Parameters& p, SuiteOptions& o) {
        p.Argument("MODEL", o.model, "The model");
      },
      ListSuites);
  suite.Add<SuiteOptions>(
      "show", "Show a suite", "cairn suite show tiny-llama prose",
      [](Parameters& p, SuiteOptions& o) {
        p.Argument("MODEL", o.model, "The model, or the suite's full name");
        p.OptionalArgument("SUITE", o.suite, "Short name of the suite");
      },
      ShowSuite);
}

}  // namespace cairn::cli
