#include "client/cli/storage_commands.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cairn/v1/identity.grpc.pb.h"
#include "cairn/v1/storage.grpc.pb.h"
#include "client/cli/output.h"
#include "client/names.h"
#include "client/progress.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"

namespace cairn::cli {
namespace {

using v1::AdminService;
using v1::StorageService;

// Reading or copying everything takes its time.
constexpr CallOptions kLong = {.deadline = absl::Hours(12),
                               .patience = absl::Seconds(60)};

struct CheckOptions {
  bool read_blobs = false;
};

struct BackupOptions {
  std::string directory;
  int64_t keep = 0;
};

struct RestoreOptions {
  std::string backup;
  std::string snapshot;
  std::string data_dir;
  std::string address;
};

absl::Status Check(Session& session, const CheckOptions& options) {
  v1::CheckRequest request;
  request.set_read_blobs(options.read_blobs);
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(v1::CheckResponse told,
                         hub->Call(&AdminService::Stub::Check, request, kLong));
  PrintResource(session, told, [&] {
    return absl::StrCat(told.records(), " records, ", told.blobs(), " blobs: ",
                        told.problems().empty()
                            ? "sound"
                            : absl::StrJoin(told.problems(), "\n"));
  });
  if (!told.problems().empty()) session.set_exit_code(7);
  return absl::OkStatus();
}

void AddShares(
    const google::protobuf::RepeatedPtrField<v1::StorageShare>& shares,
    Table& table) {
  for (const v1::StorageShare& share : shares) {
    table.Add({share.name(), absl::StrCat(share.blobs()),
               FormatBytes(share.plain_bytes()),
               FormatBytes(share.stored_bytes())});
  }
}

std::string DescribeScrub(const v1::ScrubState& scrub) {
  std::string out =
      scrub.has_start_time()
          ? absl::StrCat("under way since ", FormatTime(scrub.start_time()),
                         ", ", FormatBytes(scrub.bytes()), " read")
          : absl::StrCat(FormatBytes(scrub.bytes()), " read");
  absl::StrAppend(
      &out, scrub.has_end_time()
                ? absl::StrCat(", last complete ", FormatTime(scrub.end_time()))
                : std::string(", never complete yet"));
  for (const v1::DamagedBlob& blob : scrub.damaged()) {
    absl::StrAppend(&out, "\ndamaged  ", blob.message(), "; needed by ",
                    blob.used_by().empty()
                        ? "nothing"
                        : absl::StrJoin(blob.used_by(), ", "));
  }
  return out;
}

std::string DescribeStats(const v1::StorageStats& stats) {
  Table table({"", "BLOBS", "PLAIN", "AT REST"});
  AddShares(stats.kinds(), table);
  AddShares(stats.models(), table);
  AddShares(stats.users(), table);
  const v1::StorageShare& total = stats.total();
  table.Add({"all", absl::StrCat(total.blobs()),
             FormatBytes(total.plain_bytes()),
             FormatBytes(total.stored_bytes())});
  return absl::StrCat(
      table.Render(), "\npacked   ", stats.packed_blobs(), " blobs\nuploads  ",
      stats.open_uploads(), " open\ndisk     ", FormatBytes(stats.free_bytes()),
      " free, of which ", FormatBytes(stats.reserve_bytes()),
      " are kept for records\nscrub    ", DescribeScrub(stats.scrub()));
}

absl::Status Stats(Session& session) {
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(v1::StorageStats stats,
                         hub->Call(&StorageService::Stub::GetStorageStats,
                                   v1::GetStorageStatsRequest(), kLong));
  PrintResource(session, stats, [&] { return DescribeStats(stats); });
  if (stats.scrub().damaged_size() > 0) session.set_exit_code(7);
  return absl::OkStatus();
}

absl::Status Backup(Session& session, const BackupOptions& options) {
  v1::BackupRequest request;
  request.set_directory(std::filesystem::absolute(options.directory));
  if (options.keep < 0 || options.keep > 1'000'000) {
    return UsageError("--keep: must be 1 or more, or 0 for all");
  }
  request.set_keep(static_cast<int32_t>(options.keep));
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CallOptions once = kLong;
  once.retry = Retry::kUnsent;
  CAIRN_ASSIGN_OR_RETURN(
      v1::BackupReport report,
      hub->Call(&StorageService::Stub::Backup, request, once));
  PrintResource(session, report, [&] {
    return absl::StrCat(
        "backed up to ", report.directory(), " as ", report.snapshot(), ": ",
        report.blobs(), " blobs, ", FormatBytes(report.stored_bytes()), "; ",
        report.new_blobs(), " of them new, ", FormatBytes(report.new_bytes()),
        report.removed_snapshots().empty()
            ? std::string()
            : absl::StrCat("; removed ",
                           absl::StrJoin(report.removed_snapshots(), ", ")));
  });
  session.Note(
      "the administrator's home and the root key are in no backup: keep them "
      "elsewhere");
  return absl::OkStatus();
}

// `cairnd` beside this program, else as PATH has it.
std::string HubProgram() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::string beside = self.parent_path() / "cairnd";
  return !error && access(beside.c_str(), X_OK) == 0 ? beside : "cairnd";
}

// Runs a program to its end and returns its exit code. With --json its words
// go to standard error.
absl::StatusOr<int> RunToEnd(const Session& session,
                             std::vector<std::string> words) {
  std::vector<char*> raw;
  for (std::string& word : words) raw.push_back(word.data());
  raw.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  if (session.flags().json) {
    posix_spawn_file_actions_adddup2(&files, STDERR_FILENO, STDOUT_FILENO);
  }
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  pid_t child = 0;
  const int error =
      posix_spawnp(&child, raw[0], &files, &attributes, raw.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  if (error != 0) {
    return SystemError(error, absl::StrCat("run ", words[0],
                                           ", the hub's program, which "
                                           "restores its own backups"));
  }
  int ended = 0;
  while (waitpid(child, &ended, 0) < 0) {
    if (errno != EINTR) return SystemError(errno, "wait for cairnd");
  }
  return WIFEXITED(ended) ? WEXITSTATUS(ended) : 130;
}

absl::Status Restore(Session& session, const RestoreOptions& options) {
  std::vector<std::string> words = {HubProgram(), "restore",
                                    "--from",     options.backup,
                                    "--data-dir", options.data_dir};
  if (!options.snapshot.empty()) {
    words.insert(words.end(), {"--snapshot", options.snapshot});
  }
  if (!options.address.empty()) {
    words.insert(words.end(), {"--address", options.address});
  }
  CAIRN_ASSIGN_OR_RETURN(int code, RunToEnd(session, std::move(words)));
  session.set_exit_code(code);
  if (code == 0 && session.flags().json) {
    session.Print(
        nlohmann::ordered_json{{"dataDir", options.data_dir},
                               {"adminHome", options.data_dir + "/admin"}}
            .dump());
  }
  return absl::OkStatus();
}

}  // namespace

void AddStorageCommands(CommandLine& admin) {
  admin.Add<CheckOptions>(
      "check", "Check that the hub's records and blobs are sound",
      "cairn admin check --read-blobs",
      [](Parameters& p, CheckOptions& o) {
        p.Flag("--read-blobs", o.read_blobs,
               "Also read every blob and compare its digest");
      },
      Check);
  struct None {};
  admin.Add<None>(
      "stats", "Show what the hub stores, for whom, and how sound it is",
      "cairn admin stats", [](Parameters&, None&) {},
      [](Session& session, const None&) { return Stats(session); });
  admin.Add<BackupOptions>(
      "backup", "Copy the hub, as it runs, to a directory of its machine",
      "cairn admin backup /backup/cairn --keep 30",
      [](Parameters& p, BackupOptions& o) {
        p.Argument("DIR", o.directory,
                   "On the hub's machine; later backups add what is new");
        p.Option("--keep", o.keep,
                 "Snapshots to keep, this one included (default: all)");
      },
      Backup);
  admin.Add<RestoreOptions>(
      "restore", "Make a hub's data directory of a backup, on this machine",
      "cairn admin restore /backup/cairn --data-dir /var/lib/cairn",
      [](Parameters& p, RestoreOptions& o) {
        p.Argument("DIR", o.backup, "Directory that was backed up to");
        p.RequiredOption("--data-dir", o.data_dir,
                         "Directory to make; must not exist, or be empty");
        p.Option("--snapshot", o.snapshot,
                 "Name of the snapshot (default: the newest)");
        p.Option("--address", o.address,
                 "HOST:PORT that the new administrator's home names");
      },
      Restore);
}

}  // namespace cairn::cli
