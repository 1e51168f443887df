#include "client/cli/dev_suites.h"

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "cairn/v1/suite.grpc.pb.h"
#include "cairn/v1/transfer.pb.h"
#include "client/base_finder.h"
#include "client/cli/local_programs.h"
#include "client/cli/paging.h"
#include "client/names.h"
#include "client/update_source.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/release/file_policy.h"
#include "core/rpc/blob_download.h"

namespace cairn::cli {
namespace {

absl::StatusOr<std::vector<v1::Suite>> ListDevSuites(HubChannel& hub,
                                                     const std::string& model) {
  v1::ListSuitesRequest request;
  request.set_parent(model);
  CAIRN_ASSIGN_OR_RETURN(
      auto listed, ListAll(hub, &v1::SuiteService::Stub::ListSuites, request));
  std::vector<v1::Suite> suites;
  for (v1::Suite& suite : listed) {
    if (!suite.public_files().empty()) suites.push_back(std::move(suite));
  }
  return suites;
}

// The suite's public files, in a directory of their own.
absl::Status FetchSuite(HubChannel& hub, const v1::Suite& suite,
                        const std::string& directory) {
  for (const v1::File& file : suite.public_files()) {
    const std::filesystem::path path =
        std::filesystem::path(directory) / file.path();
    CAIRN_RETURN_IF_ERROR(CheckRelativePath(file.path()));
    std::error_code error;
    std::filesystem::create_directories(path.parent_path(), error);
    v1::ReadRequest request;
    request.mutable_suite_file()->set_suite(suite.name());
    request.mutable_suite_file()->set_path(file.path());
    CAIRN_RETURN_IF_ERROR(DownloadFile(hub, request, file.sha256(),
                                       file.size_bytes(), path.string(),
                                       nullptr));
  }
  return absl::OkStatus();
}

struct Score {
  double value = 0;
  int64_t items = 0;
};

absl::StatusOr<Score> Evaluate(std::vector<std::string> model,
                               const std::string& suite) {
  model.insert(model.end(), {"--suite", suite, "--split", "dev", "--json"});
  CAIRN_ASSIGN_OR_RETURN(
      std::string text,
      CaptureLocalProgram(*FindLocalProgram("evaluate"), std::move(model)));
  auto json = nlohmann::json::parse(text, nullptr, false);
  if (json.contains("items") && json["items"].is_array() &&
      !json["items"].empty()) {
    json = json["items"][0];  // one a given adapter
  }
  const auto value = json.find("value");
  const auto items = json.find("items");
  if (value == json.end() || !value->is_number() || items == json.end() ||
      !items->is_number_integer()) {
    return absl::InternalError("cairn-evaluate printed no report");
  }
  return Score{.value = value->get<double>(), .items = items->get<int64_t>()};
}

v1::Report MakeReport(const v1::Suite& suite, const Score& base,
                      const Score& candidate) {
  v1::Report report;
  report.set_suite(suite.name());
  report.set_suite_version(suite.version());
  report.set_split("dev");
  report.set_metric(suite.metric());
  report.set_base(base.value);
  report.set_candidate(candidate.value);
  report.set_difference(candidate.value - base.value);
  report.set_items(candidate.items);
  report.set_gain(suite.higher_is_better()
                      ? candidate.value - base.value
                      : (base.value - candidate.value) / base.value);
  report.set_margin(suite.margin());
  return report;
}

}  // namespace

absl::Status MeasureOnDevSuites(Session& session, HubChannel& hub,
                                const std::string& path,
                                v1::Contribution& contribution) {
  const std::string model = ModelOf(contribution.base_release());
  CAIRN_ASSIGN_OR_RETURN(auto suites, ListDevSuites(hub, model));
  if (suites.empty()) {
    session.Note(absl::StrCat(ShortName(model),
                              " has no public dev split to score it on"));
    return absl::OkStatus();
  }
  if (!IsInstalled(*FindLocalProgram("evaluate"))) {
    session.Warn("cairn-evaluate is not installed: nothing is scored here");
    return absl::OkStatus();
  }
  CAIRN_ASSIGN_OR_RETURN(auto release,
                         GetRelease(hub, contribution.base_release()));
  CAIRN_ASSIGN_OR_RETURN(std::string base,
                         CachedRelease(session, hub, release));
  CAIRN_ASSIGN_OR_RETURN(UpdateSource source, OpenUpdateSource(path));
  const bool is_checkpoint = source.kind == UpdateSource::Kind::kCheckpoint;
  const std::vector<std::string> candidate =
      is_checkpoint
          ? std::vector<std::string>{"--model", path}
          : std::vector<std::string>{"--model", base, "--adapter", path};
  CAIRN_ASSIGN_OR_RETURN(std::string folder, session.home().Folder("tmp"));
  std::string scratch = absl::StrCat(folder, "/dev-XXXXXX");
  if (mkdtemp(scratch.data()) == nullptr) {
    return SystemError(errno, absl::StrCat("make a folder in ", folder));
  }
  absl::Cleanup clean = [&] {
    std::error_code ignored;
    std::filesystem::remove_all(scratch, ignored);
  };
  for (const v1::Suite& suite : suites) {
    const std::string directory =
        absl::StrCat(scratch, "/", ShortName(suite.name()));
    CAIRN_RETURN_IF_ERROR(FetchSuite(hub, suite, directory));
    CAIRN_ASSIGN_OR_RETURN(Score before,
                           Evaluate({"--model", base}, directory));
    CAIRN_ASSIGN_OR_RETURN(Score after, Evaluate(candidate, directory));
    *contribution.add_reports() = MakeReport(suite, before, after);
  }
  return absl::OkStatus();
}

}  // namespace cairn::cli
