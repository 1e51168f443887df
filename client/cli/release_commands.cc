#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cairn/v1/release.grpc.pb.h"
#include "cairn/v1/transfer.pb.h"
#include "client/base_finder.h"
#include "client/cli/attribution_view.h"
#include "client/cli/command.h"
#include "client/cli/contribution_view.h"
#include "client/cli/output.h"
#include "client/cli/paging.h"
#include "client/cli/release_diff.h"
#include "client/names.h"
#include "client/pull.h"
#include "core/base/digest.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/rpc/blob_download.h"

namespace cairn::cli {
namespace {

using v1::ReleaseService;

struct ReleaseOptions {
  std::string release;
  std::string note;
};

absl::StatusOr<v1::Release> Resolve(HubChannel& hub, const std::string& text) {
  CAIRN_ASSIGN_OR_RETURN(ReleaseRef ref, ParseReleaseRef(text));
  return GetRelease(hub, ref.name());
}

std::string DescribeRelease(const v1::Release& release) {
  std::string out = absl::StrCat(
      "name      ", release.name(), "\ndigest    ", release.digest(),
      "\ncommit    ", release.commit(), "\nparent    ",
      release.parent().empty() ? "(none)" : ShortName(release.parent()),
      "\ncreated   ", FormatTime(release.create_time()), " UTC\nlicense   ",
      release.license());
  if (!release.yanked().empty()) {
    absl::StrAppend(&out, "\nyanked    ", release.yanked());
  }
  if (release.rolled_back()) {
    absl::StrAppend(&out, "\nnote      latest was rolled back past it");
  }
  if (release.has_merge_record()) {
    const v1::MergeRecord& merge = release.merge_record();
    absl::StrAppend(&out, "\nmerged by ", merge.strategy());
    for (const auto& [key, value] : merge.parameters()) {
      absl::StrAppend(&out, ", ", key, " ", value);
    }
    for (const v1::MergeRecord::Input& input : merge.inputs()) {
      absl::StrAppendFormat(&out, "\n  %g x %s", input.coefficient(),
                            input.contribution());
    }
  }
  absl::StrAppend(&out, DescribeReports(release.reports()),
                  DescribeAttribution(release.attribution()), "\nfiles");
  for (const v1::File& file : release.files()) {
    absl::StrAppend(&out, "\n  ", file.sha256().substr(0, 12), "  ",
                    file.path(), "  ", FormatBytes(file.size_bytes()));
  }
  return out;
}

absl::Status ListReleases(Session& session, const ReleaseOptions& options) {
  v1::ListReleasesRequest request;
  CAIRN_ASSIGN_OR_RETURN(*request.mutable_parent(), ModelName(options.release));
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(
      auto releases,
      ListAll(*hub, &ReleaseService::Stub::ListReleases, request));
  PrintList(session, releases, [&] {
    Table table(
        {"VERSION", "DIGEST", "PARENT", "CONTRIBUTIONS", "CREATED", ""});
    for (const v1::Release& release : releases) {
      table.Add({release.version(), ShortDigest(release.digest()),
                 ShortName(release.parent()),
                 absl::StrCat(release.contributions_size()),
                 FormatTime(release.create_time()),
                 !release.yanked().empty() ? "yanked"
                 : release.rolled_back()   ? "rolled back"
                                           : ""});
    }
    return table.Render();
  });
  return absl::OkStatus();
}

absl::Status ShowRelease(Session& session, const ReleaseOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(v1::Release release, Resolve(*hub, options.release));
  PrintResource(session, release, [&] { return DescribeRelease(release); });
  return absl::OkStatus();
}

// Reads every file from the hub and compares it with what was signed.
absl::Status VerifyRelease(Session& session, const ReleaseOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(v1::Release release, Resolve(*hub, options.release));
  CAIRN_ASSIGN_OR_RETURN(std::string root, session.RootFingerprint());
  CAIRN_RETURN_IF_ERROR(FetchReleaseDocument(*hub, release, root));
  int64_t total = 0;
  for (const v1::File& file : release.files()) total += file.size_bytes();
  auto meter = session.Meter("verifying", total);
  for (const v1::File& file : release.files()) {
    v1::ReadRequest request;
    request.mutable_release_file()->set_release(release.name());
    request.mutable_release_file()->set_path(file.path());
    Hasher hasher;
    CAIRN_RETURN_IF_ERROR(
        Download(*hub, request, [&](absl::string_view bytes) -> absl::Status {
          hasher.Update(bytes);
          meter->Add(static_cast<int64_t>(bytes.size()));
          return absl::OkStatus();
        }));
    if (const std::string got = hasher.FinishHex(); got != file.sha256()) {
      return absl::DataLossError(absl::StrCat(release.name(), ": ", file.path(),
                                              " has SHA-256 ", got, ", but ",
                                              file.sha256(), " was signed"));
    }
  }
  meter.reset();
  PrintResource(session, release, [&] {
    return absl::StrCat(release.name(),
                        " is what was signed: ", release.files_size(),
                        " files, ", FormatBytes(total));
  });
  return absl::OkStatus();
}

absl::Status ReplayRelease(Session& session, const ReleaseOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(v1::Release release, Resolve(*hub, options.release));
  v1::StartReplayRequest start;
  start.set_name(release.name());
  start.set_request_id(ToHex(RandomBytes(16)));
  CAIRN_ASSIGN_OR_RETURN(v1::Replay replay,
                         hub->Call(&ReleaseService::Stub::StartReplay, start));
  v1::GetReplayRequest get;
  get.set_name(replay.name());
  if (!replay.done()) {
    session.Note(absl::StrCat("waiting for a worker to repeat the merge of ",
                              release.version()));
  }
  while (!replay.done()) {
    CAIRN_RETURN_IF_ERROR(hub->Sleep(absl::Milliseconds(300)));
    CAIRN_ASSIGN_OR_RETURN(replay,
                           hub->Call(&ReleaseService::Stub::GetReplay, get,
                                     {.patience = absl::Minutes(2)}));
  }
  PrintResource(session, replay, [&] {
    return absl::StrCat(
        replay.digest(), replay.matches() ? " (the same as " : " (NOT that of ",
        release.version(), ")", DescribeReasons(replay.reasons()));
  });
  if (!replay.matches()) {
    session.set_exit_code(replay.digest().empty() ? 1 : 7);
  }
  return absl::OkStatus();
}

absl::Status YankRelease(Session& session, const ReleaseOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(v1::Release release, Resolve(*hub, options.release));
  v1::YankReleaseRequest request;
  request.set_name(release.name());
  request.set_note(options.note);
  CAIRN_ASSIGN_OR_RETURN(release,
                         hub->Call(&ReleaseService::Stub::YankRelease, request,
                                   {.retry = Retry::kUnsent}));
  PrintResource(session, release, [&] {
    return absl::StrCat(release.name(),
                        " is marked as not to be used: ", release.yanked());
  });
  return absl::OkStatus();
}

void DeclareRelease(Parameters& p, ReleaseOptions& o) {
  p.Argument("RELEASE", o.release,
             "MODEL@REF; REF is a version, tag or digest");
}

}  // namespace

void AddReleaseCommands(CommandLine& root) {
  CommandLine release = root.Group("release", "Published releases");
  release.Add<ReleaseOptions>(
      "list", "List the releases of a model", "cairn release list tiny-llama",
      [](Parameters& p, ReleaseOptions& o) {
        p.Argument("MODEL", o.release, "The model");
      },
      ListReleases);
  release.Add<ReleaseOptions>("show", "Show a release",
                              "cairn release show tiny-llama@v1.2.0",
                              DeclareRelease, ShowRelease);
  release.Add<ReleaseOptions>(
      "verify", "Check that the hub still serves what was signed",
      "cairn release verify tiny-llama@latest", DeclareRelease, VerifyRelease);
  release.Add<ReleaseOptions>(
      "replay", "Let a worker repeat the merge and compare the digest",
      "cairn release replay tiny-llama@v1.2.0", DeclareRelease, ReplayRelease);
  AddReleaseDiff(release);
  release.Add<ReleaseOptions>(
      "yank", "Mark a release as not to be used",
      "cairn release yank tiny-llama@v1.2.0 --note 'licence problem'",
      [](Parameters& p, ReleaseOptions& o) {
        DeclareRelease(p, o);
        p.RequiredOption("--note", o.note, "Why");
      },
      YankRelease);
}

}  // namespace cairn::cli
