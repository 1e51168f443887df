#include "client/cli/local_programs.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/base_finder.h"
#include "client/names.h"
#include "client/pull.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"

namespace cairn::cli {
namespace {

constexpr char kPackage[] = "cairn-worker";

constexpr LocalProgram kPrograms[] = {
    {"merge", "Merge models or adapters into a Hugging Face directory",
     "cairn merge --base ./base --adapter ./adapter ./merged"},
    {"soup", "Average the models or adapters that a suite likes",
     "cairn soup --model ./a --model ./b --suite ./prose ./soup"},
    {"evaluate", "Score a model on a suite",
     "cairn evaluate --model ./model --suite ./prose --json"},
    {"compress", "Turn a fine-tuned checkpoint into a small update",
     "cairn compress --base ./base --tuned ./tuned --encoding sparse ./update"},
    {"expand", "Apply an update to its base",
     "cairn expand --base ./base ./update ./tuned"},
    {"inspect", "Show what a checkpoint, adapter or update holds",
     "cairn inspect ./update"},
    {"diff", "Compare two checkpoints tensor by tensor",
     "cairn diff ./before ./after"},
    {"train", "Fine-tune a model deterministically",
     "cairn train --model ./base --data text.txt --method lora --seed 1 "
     "./adapter"},
};

std::string FindProgram(const LocalProgram& program) {
  const std::string file = absl::StrCat("cairn-", program.name);
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  std::vector<std::string> folders;
  if (!error) folders.push_back(self.parent_path().string());
  const char* path = std::getenv("PATH");
  for (absl::string_view folder :
       absl::StrSplit(path == nullptr ? "" : path, ':', absl::SkipEmpty())) {
    folders.emplace_back(folder);
  }
  for (const std::string& folder : folders) {
    std::string candidate = absl::StrCat(folder, "/", file);
    if (access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return "";
}

// MODEL@REF, and no file of that name.
bool IsRelease(const std::string& argument) {
  std::error_code error;
  return !absl::StartsWith(argument, "-") && absl::StrContains(argument, '@') &&
         !std::filesystem::exists(argument, error) &&
         ParseReleaseRef(argument).ok();
}

absl::StatusOr<std::string> PullArgument(Session& session,
                                         const std::string& argument) {
  CAIRN_ASSIGN_OR_RETURN(ReleaseRef ref, ParseReleaseRef(argument));
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(v1::Release release, GetRelease(*hub, ref.name()));
  return CachedRelease(session, *hub, release);
}

absl::StatusOr<std::string> NeedProgram(const LocalProgram& program) {
  std::string path = FindProgram(program);
  if (!path.empty()) return path;
  return absl::UnimplementedError(absl::StrCat(
      "`cairn ", program.name, "` is the program cairn-", program.name,
      ", which is neither beside cairn nor on PATH; install the package ",
      kPackage));
}

// The program's name and arguments as exec wants them; they point into both.
std::vector<char*> ArgumentVector(std::string& path,
                                  std::vector<std::string>& arguments) {
  std::vector<char*> raw = {path.data()};
  for (std::string& argument : arguments) raw.push_back(argument.data());
  raw.push_back(nullptr);
  return raw;
}

// All that is written to the pipe until its last writer is gone.
absl::StatusOr<std::string> Drain(int pipe) {
  std::string out;
  char buffer[64 << 10];
  while (true) {
    const ssize_t n = read(pipe, buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return SystemError(errno, "read what a program printed");
    if (n == 0) return out;
    out.append(buffer, static_cast<size_t>(n));
  }
}

}  // namespace

std::span<const LocalProgram> LocalPrograms() { return kPrograms; }

const LocalProgram* FindLocalProgram(const std::string& name) {
  for (const LocalProgram& program : kPrograms) {
    if (name == program.name) return &program;
  }
  return nullptr;
}

absl::Status RunLocalProgram(Session& session, const LocalProgram& program,
                             std::vector<std::string> arguments,
                             void (*before_exec)()) {
  CAIRN_ASSIGN_OR_RETURN(std::string path, NeedProgram(program));
  for (std::string& argument : arguments) {
    if (!IsRelease(argument)) continue;
    CAIRN_ASSIGN_OR_RETURN(argument, PullArgument(session, argument));
  }
  std::vector<char*> raw = ArgumentVector(path, arguments);
  before_exec();
  execv(path.c_str(), raw.data());
  return SystemError(errno, absl::StrCat("run ", path));
}

absl::StatusOr<std::string> CaptureLocalProgram(
    const LocalProgram& program, std::vector<std::string> arguments) {
  CAIRN_ASSIGN_OR_RETURN(std::string path, NeedProgram(program));
  std::vector<char*> raw = ArgumentVector(path, arguments);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return SystemError(errno, "make a pipe");
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  pid_t child = 0;
  const int failed =
      posix_spawn(&child, path.c_str(), &actions, nullptr, raw.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  auto out = failed == 0 ? Drain(ends[0]) : std::string();
  close(ends[0]);
  if (failed != 0) return SystemError(failed, absl::StrCat("run ", path));
  int ended = 0;
  while (waitpid(child, &ended, 0) < 0 && errno == EINTR) {
  }
  if (ended != 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "cairn-", program.name,
        WIFEXITED(ended)
            ? absl::StrCat(" ended with exit code ", WEXITSTATUS(ended))
            : absl::StrCat(" was ended by signal ", WTERMSIG(ended))));
  }
  return out;
}

absl::StatusOr<std::string> CachedRelease(Session& session, HubChannel& hub,
                                          const v1::Release& release) {
  CAIRN_ASSIGN_OR_RETURN(std::string cache, session.home().Folder("releases"));
  const std::string directory = absl::StrCat(
      cache, "/", absl::StripPrefix(release.manifest_digest(), "sha256:"));
  PullOptions pull;
  CAIRN_ASSIGN_OR_RETURN(pull.root_fingerprint, session.RootFingerprint());
  pull.meter = [&](const std::string& label, int64_t total) {
    return session.Meter(label, total);
  };
  CAIRN_RETURN_IF_ERROR(PullRelease(hub, release, directory, pull));
  return directory;
}

std::string LocalHelp(const LocalProgram& program) {
  return absl::StrCat(program.what, "\n\nUsage: cairn ", program.name,
                      " ...\n\nThe program cairn-", program.name,
                      " does this; install the package ", kPackage,
                      " for it and for all of its flags.\n\nExample:\n  ",
                      program.example, "\n");
}

bool IsInstalled(const LocalProgram& program) {
  return !FindProgram(program).empty();
}

}  // namespace cairn::cli
