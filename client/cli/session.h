#ifndef CAIRN_CLIENT_CLI_SESSION_H_
#define CAIRN_CLIENT_CLI_SESSION_H_

#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/credentials.h"
#include "client/progress.h"
#include "core/rpc/hub_channel.h"

namespace cairn::cli {

// Flags that every command takes.
struct GlobalFlags {
  std::string hub;
  std::string home;
  std::string token_file;
  std::string color = "auto";
  bool json = false;
  bool quiet = false;
  bool no_progress = false;
};

// What a running command has: its flags, home, hub, and the way to speak to
// the person or program that runs it. Results go to standard output, all else
// to standard error.
class Session {
 public:
  Session(GlobalFlags flags, std::stop_token stop);

  const GlobalFlags& flags() const { return flags_; }
  const Home& home() const { return home_; }
  const std::stop_token& stop() const { return stop_; }

  // The hub of the home or of --hub, with the caller's token. Connects when
  // first used; lives as long as the session.
  absl::StatusOr<HubChannel*> Hub();
  // The pinned root fingerprint; empty when none is.
  absl::StatusOr<std::string> RootFingerprint() const;

  // A result.
  void Print(absl::string_view text) const;
  // A message; not with --quiet.
  void Note(absl::string_view text) const;
  void Warn(absl::string_view text) const;
  std::unique_ptr<ProgressMeter> Meter(const std::string& label,
                                       int64_t total_bytes) const;

  // `text` in a terminal colour ("31"), where colours are wanted.
  std::string Colored(absl::string_view text, absl::string_view color) const;

  // Overrides the exit code that follows from the command's status.
  void set_exit_code(int code) { exit_code_ = code; }
  const std::optional<int>& exit_code() const { return exit_code_; }

 private:
  const GlobalFlags flags_;
  const Home home_;
  const std::stop_token stop_;
  std::unique_ptr<HubChannel> hub_;
  std::optional<int> exit_code_;
};

// The hub's address: --hub, else the home's. FAILED_PRECONDITION without one.
absl::StatusOr<std::string> ChooseHub(const GlobalFlags& flags,
                                      const HomeSettings& settings);

// A mistake in the command line that shows only after parsing: exit 2.
absl::Status UsageError(absl::string_view message);

// The documented exit code of a command that ended with `status`.
int ExitCode(const absl::Status& status);

}  // namespace cairn::cli

#endif  // CAIRN_CLIENT_CLI_SESSION_H_
