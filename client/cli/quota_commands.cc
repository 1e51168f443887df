#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "cairn/v1/hub.grpc.pb.h"
#include "cairn/v1/quota.grpc.pb.h"
#include "client/cli/command.h"
#include "client/cli/output.h"
#include "client/progress.h"
#include "core/base/status_macros.h"

namespace cairn::cli {
namespace {

using v1::QuotaService;

constexpr int64_t kNoLimit = -1;

struct ShowOptions {
  std::string name;
};

struct SetOptions {
  std::string name;
  std::string stored_bytes;
  std::string open_uploads;
  std::string contributions;
  std::string organization;
};

// "users/NAME", unless it says what it is.
std::string QuotaName(const std::string& text) {
  if (text.empty() || text.find('/') != std::string::npos) return text;
  return absl::StrCat("users/", text);
}

// A number, with KiB to TiB where it counts bytes; "default" or "none".
absl::StatusOr<int64_t> ParseAmount(absl::string_view flag,
                                    const std::string& text) {
  if (text == "default") return 0;
  if (text == "none") return kNoLimit;
  absl::string_view number = text;
  int shift = 0;
  int step = 10;
  for (absl::string_view unit : {"KiB", "MiB", "GiB", "TiB"}) {
    if (absl::ConsumeSuffix(&number, unit)) shift = step;
    step += 10;
  }
  int64_t amount = 0;
  if (!absl::SimpleAtoi(number, &amount) || amount < 1 ||
      amount > (int64_t{1} << 60) >> shift) {
    return UsageError(absl::StrCat(
        flag, " ", text,
        ": must be a number above 0 (bytes also as 10GiB), default or none"));
  }
  return amount << shift;
}

std::string Bytes(int64_t bytes) {
  return bytes == kNoLimit ? "no limit" : FormatBytes(bytes);
}

std::string Count(int64_t count) {
  return count == kNoLimit ? "no limit" : absl::StrCat(count);
}

std::string DescribeQuota(const v1::Quota& quota) {
  const v1::QuotaAmounts& limits = quota.limits();
  const v1::QuotaAmounts& used = quota.used();
  const v1::QuotaAmounts& left = quota.left();
  Table table({"QUOTA", "USED", "LIMIT", "LEFT"});
  table.Add({"stored", Bytes(used.stored_bytes()), Bytes(limits.stored_bytes()),
             Bytes(left.stored_bytes())});
  table.Add({"open uploads", Count(used.open_uploads()),
             Count(limits.open_uploads()), Count(left.open_uploads())});
  table.Add({"contributions a day", Count(used.contributions_per_day()),
             Count(limits.contributions_per_day()),
             Count(left.contributions_per_day())});
  return absl::StrCat(quota.name(),
                      quota.organization().empty()
                          ? ""
                          : absl::StrCat(" of ", quota.organization()),
                      "\n", table.Render());
}

absl::StatusOr<v1::Quota> Ask(HubChannel& hub, const std::string& name) {
  v1::GetQuotaRequest request;
  request.set_name(QuotaName(name));
  return hub.Call(&QuotaService::Stub::GetQuota, request);
}

absl::Status ShowQuota(Session& session, const ShowOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(v1::Quota quota, Ask(*hub, options.name));
  PrintResource(session, quota, [&] { return DescribeQuota(quota); });
  return absl::OkStatus();
}

absl::Status SetQuota(Session& session, const SetOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(v1::Quota before, Ask(*hub, options.name));
  v1::UpdateQuotaRequest request;
  request.set_name(before.name());
  request.set_organization(before.organization());
  v1::QuotaAmounts& own = *request.mutable_overrides();
  own = before.overrides();
  if (!options.stored_bytes.empty()) {
    CAIRN_ASSIGN_OR_RETURN(int64_t amount,
                           ParseAmount("--stored", options.stored_bytes));
    own.set_stored_bytes(amount);
  }
  if (!options.open_uploads.empty()) {
    CAIRN_ASSIGN_OR_RETURN(int64_t amount,
                           ParseAmount("--uploads", options.open_uploads));
    own.set_open_uploads(amount);
  }
  if (!options.contributions.empty()) {
    CAIRN_ASSIGN_OR_RETURN(
        int64_t amount, ParseAmount("--contributions", options.contributions));
    own.set_contributions_per_day(amount);
  }
  if (options.organization == "none") {
    request.clear_organization();
  } else if (!options.organization.empty()) {
    request.set_organization(absl::StrCat(
        "organizations/",
        absl::StripPrefix(options.organization, "organizations/")));
  }
  CAIRN_ASSIGN_OR_RETURN(v1::Quota after,
                         hub->Call(&QuotaService::Stub::UpdateQuota, request));
  PrintResource(session, after, [&] { return DescribeQuota(after); });
  return absl::OkStatus();
}

absl::Status ShowHub(Session& session) {
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(v1::Hub told, hub->Call(&v1::HubService::Stub::GetHub,
                                                 v1::GetHubRequest()));
  PrintResource(session, told, [&] {
    const v1::Limits& limits = told.limits();
    return absl::StrCat(
        "hub          ", told.hub_id(), ", version ", told.version(),
        "\nroot         ", told.root_fingerprint(), "\nupdates      ",
        absl::StrJoin(told.encodings(), ", "), "\nmodels       ",
        absl::StrJoin(told.formats(), ", "), "\ndigests      ",
        absl::StrJoin(told.digests(), ", "), "\ncompressors  ",
        absl::StrJoin(told.compressors(), ", "), "\nupload       at most ",
        FormatBytes(limits.upload_bytes_max()), ", an update at most ",
        limits.update_ratio_max(), " times its base", "\nstreams      ",
        limits.caller_streams_max(), " of ", limits.streams_max(),
        " at once\nquota        ", Bytes(limits.quota().stored_bytes()),
        " stored, ", Count(limits.quota().open_uploads()), " open uploads, ",
        Count(limits.quota().contributions_per_day()),
        " contributions a day (yours: cairn quota show)");
  });
  return absl::OkStatus();
}

}  // namespace

void AddQuotaCommands(CommandLine& root) {
  CommandLine quota = root.Group("quota", "What may be used of the hub");
  quota.Add<ShowOptions>(
      "show", "Show limits and what is left of them", "cairn quota show",
      [](Parameters& p, ShowOptions& o) {
        p.OptionalArgument("NAME", o.name,
                           "A user or organizations/NAME (default: you)");
      },
      ShowQuota);
  quota.Add<SetOptions>(
      "set", "Set limits of a user or an organisation",
      "cairn quota set alice --stored 10GiB --organization lab",
      [](Parameters& p, SetOptions& o) {
        p.Argument("NAME", o.name, "A user or organizations/NAME");
        p.Option("--stored", o.stored_bytes,
                 "Bytes kept, e.g. 10GiB; default: the hub's; none: no limit");
        p.Option("--uploads", o.open_uploads, "Open uploads at a time");
        p.Option("--contributions", o.contributions, "Contributions a day");
        p.Option("--organization", o.organization,
                 "What the user belongs to; none: nothing");
      },
      SetQuota);
  struct None {};
  CommandLine hub = root.Group("hub", "The hub itself");
  hub.Add<None>(
      "show", "Show what the hub accepts, and its limits", "cairn hub show",
      [](Parameters&, None&) {},
      [](Session& session, const None&) { return ShowHub(session); });
}

}  // namespace cairn::cli
