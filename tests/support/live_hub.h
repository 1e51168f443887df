#ifndef CAIRN_TESTS_SUPPORT_LIVE_HUB_H_
#define CAIRN_TESTS_SUPPORT_LIVE_HUB_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "nlohmann/json.hpp"
#include "tests/support/process.h"

namespace cairn::testing {

// What a `cairn` command came to.
struct CommandResult {
  int code = -1;
  std::string out;
  std::string err;

  // The JSON document on standard output; null when there is none.
  nlohmann::json json() const;
};

// Path of an installed program: $CAIRN_BIN/name.
std::string ProgramPath(const std::string& name);

// A real `cairnd` on loopback with TLS, real workers and people with homes,
// all under one directory. Methods abort the test program when the set-up
// itself fails.
class LiveHub {
 public:
  // Runs `cairnd init` in `root` (made).
  explicit LiveHub(const std::string& root);
  ~LiveHub();

  // Starts the hub and waits until it is ready; the first start picks ports,
  // later ones keep them. `failpoints`: what breaks, as core/base/failpoint.h
  // says.
  void Start(const std::string& failpoints = "");
  bool IsRunning() { return hub_->IsRunning(); }
  // SIGKILL.
  void Kill();
  // SIGTERM; the exit code.
  int Stop();

  void StartWorker(int index);
  void KillWorker(int index);

  // `cairn args... --json` as a person of that name; users are made on first
  // use with AddPerson(). "admin" exists from the start.
  CommandResult Run(const std::string& person,
                    const std::vector<std::string>& args,
                    absl::Duration timeout = absl::Seconds(120));
  void AddPerson(const std::string& name, const std::string& role);

  const std::string& address() const { return grpc_; }
  const std::string& root() const { return root_; }
  std::string Home(const std::string& person) const;

 private:
  const std::string root_;
  std::string grpc_ = "127.0.0.1:0";
  std::string http_ = "127.0.0.1:0";
  std::string ca_;
  std::unique_ptr<Process> hub_;
  std::map<int, std::unique_ptr<Process>> workers_;
};

}  // namespace cairn::testing

#endif  // CAIRN_TESTS_SUPPORT_LIVE_HUB_H_
