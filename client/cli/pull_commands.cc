#include <filesystem>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cairn/v1/exchange.grpc.pb.h"
#include "client/base_finder.h"
#include "client/cli/command.h"
#include "client/cli/output.h"
#include "client/names.h"
#include "client/progress.h"
#include "client/pull.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/release/release_document.h"
#include "core/release/release_verifier.h"

namespace cairn::cli {
namespace {

struct Options {
  std::string release;
  std::string directory;
  std::string trust;
  std::string from;
  bool offline_verify = false;
  bool on_hub = false;
  bool tensors = false;
  bool whole = false;
};

// What a pull moved, when it spared something.
std::string Savings(const PullSummary& summary) {
  if (summary.fetched_bytes >= summary.total_bytes) return "";
  return absl::StrCat(
      "; fetched ", FormatBytes(summary.fetched_bytes), " of ",
      FormatBytes(summary.total_bytes),
      summary.from.empty()
          ? ""
          : absl::StrCat(", the rest made of ", summary.from, " and a delta"));
}

int HashThreads() {
  const unsigned cores = std::thread::hardware_concurrency();
  return cores == 0 ? 1 : static_cast<int>(std::min(cores, 8U));
}

// The hub itself writes the directory.
absl::Status Export(Session& session, HubChannel& hub,
                    const v1::Release& release, const Options& options) {
  v1::ExportReleaseRequest request;
  request.set_release(release.name());
  request.set_directory(std::filesystem::absolute(options.directory));
  CAIRN_RETURN_IF_ERROR(
      hub.Call(&v1::ExchangeService::Stub::ExportRelease, request,
               {.deadline = absl::Hours(2), .retry = Retry::kUnsent}));
  PrintResource(session, release, [&] {
    return absl::StrCat("the hub wrote ", release.name(), " (",
                        ShortDigest(release.digest()), ") to ",
                        request.directory());
  });
  return absl::OkStatus();
}

absl::Status Pull(Session& session, const Options& options) {
  CAIRN_ASSIGN_OR_RETURN(ReleaseRef ref, ParseReleaseRef(options.release));
  if (!ref.flavour.empty()) {
    return absl::UnimplementedError(absl::StrCat(
        "`cairn pull` of flavour ", ref.flavour, " is not built yet"));
  }
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(v1::Release release, GetRelease(*hub, ref.name()));
  if (!release.yanked().empty()) {
    session.Warn(absl::StrCat(
        release.name(), " is marked as not to be used: ", release.yanked()));
  }
  if (options.on_hub) return Export(session, *hub, release, options);
  PullOptions pull;
  CAIRN_ASSIGN_OR_RETURN(pull.root_fingerprint, session.RootFingerprint());
  pull.meter = [&](const std::string& label, int64_t total) {
    return session.Meter(label, total);
  };
  pull.from = options.from;
  pull.use_deltas = !options.whole;
  pull.threads = HashThreads();
  pull.note = [&](absl::string_view text) { session.Note(text); };
  CAIRN_ASSIGN_OR_RETURN(PullSummary summary,
                         PullRelease(*hub, release, options.directory, pull));
  if (options.offline_verify) {
    CAIRN_RETURN_IF_ERROR(VerifyDirectory(
        options.directory,
        {.root_fingerprint = pull.root_fingerprint, .threads = HashThreads()}));
  }
  PrintResource(session, release, [&] {
    return absl::StrCat("pulled ", release.name(), " (",
                        ShortDigest(release.digest()), ") into ",
                        options.directory, Savings(summary));
  });
  return absl::OkStatus();
}

// A fingerprint or public key of a root, given as such or in a file.
absl::StatusOr<std::string> ReadTrust(const std::string& trust) {
  std::string text = trust;
  std::error_code error;
  if (std::filesystem::is_regular_file(trust, error)) {
    CAIRN_ASSIGN_OR_RETURN(text, ReadFile(trust, 1 << 16));
  }
  std::string hex(absl::StripAsciiWhitespace(text));
  if (!FromHex(hex).ok() || hex.size() != 2 * Digest::kBytes) {
    return UsageError(absl::StrCat(
        "--trust ", trust,
        ": must be the root's fingerprint, 64 hex digits, or a file with it"));
  }
  return hex;
}

absl::Status Verify(Session& session, const Options& options) {
  VerifyOptions verify{
      .root_fingerprint = "",
      .threads = HashThreads(),
      .depth = options.tensors ? VerifyDepth::kTensors : VerifyDepth::kFiles};
  if (!options.trust.empty()) {
    CAIRN_ASSIGN_OR_RETURN(verify.root_fingerprint, ReadTrust(options.trust));
  } else {
    CAIRN_ASSIGN_OR_RETURN(verify.root_fingerprint, session.RootFingerprint());
  }
  if (verify.root_fingerprint.empty()) {
    session.Warn(
        "this home trusts no root (`cairn init`), so only the directory's "
        "agreement with itself is checked; --trust FINGERPRINT says more");
  }
  auto manifest = VerifyDirectory(options.directory, verify);
  std::error_code error;
  if (absl::IsNotFound(manifest.status()) &&
      std::filesystem::is_directory(options.directory, error)) {
    return absl::DataLossError(manifest.status().message());
  }
  CAIRN_RETURN_IF_ERROR(manifest.status());
  PrintResource(session, *manifest, [&] {
    return absl::StrCat(options.directory, " is ", manifest->name(), ", ",
                        manifest->files_size(), " files, ", manifest->digest());
  });
  return absl::OkStatus();
}

}  // namespace

void AddPullCommands(CommandLine& root) {
  root.Add<Options>(
      "pull", "Fetch a release as a Hugging Face directory",
      "cairn pull tiny-llama@stable ./tiny-llama",
      [](Parameters& p, Options& o) {
        p.Argument("RELEASE", o.release,
                   "MODEL[@REF]; REF is a version, tag or digest prefix "
                   "(default: latest)");
        p.Argument(
            "DIR", o.directory,
            "Empty, or pulled before: then only what changed is fetched");
        p.Option("--from", o.from,
                 "A directory with another release of the model, to start from "
                 "(default: DIR itself)");
        p.Flag("--whole", o.whole,
               "Fetch changed files whole, not as differences");
        p.Flag("--offline-verify", o.offline_verify,
               "Verify the directory afterwards as `cairn verify` does");
        p.Flag("--on-hub", o.on_hub,
               "DIR is one to make on the hub's machine, in the one that its "
               "setting storage.exchange opens; nothing is sent");
      },
      Pull);
  root.Add<Options>(
      "verify", "Verify a pulled directory offline",
      "cairn verify ./tiny-llama",
      [](Parameters& p, Options& o) {
        p.Argument("DIR", o.directory, "A pulled directory");
        p.Option("--trust", o.trust,
                 "Fingerprint of the root to trust, or a file with it "
                 "(default: the home's)");
        p.Flag("--tensors", o.tensors,
               "Also recompute the release's digest from every tensor, which "
               "hashes all bytes twice");
      },
      Verify);
}

}  // namespace cairn::cli
