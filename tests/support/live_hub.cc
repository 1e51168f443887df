#include "tests/support/live_hub.h"

#include <signal.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/log.h"

namespace cairn::testing {
namespace {

namespace fs = std::filesystem;

constexpr absl::Duration kStartTimeout = absl::Seconds(60);

// Variables of the surrounding shell must not leak into a person's commands.
std::map<std::string, std::string> CleanEnvironment() {
  return {{"CAIRN_TOKEN", ""},
          {"CAIRN_TOKEN_FILE", ""},
          {"CAIRN_HOME", ""},
          {"CAIRN_HUB", ""},
          {"NO_COLOR", "1"}};
}

}  // namespace

nlohmann::json CommandResult::json() const {
  return nlohmann::json::parse(out, nullptr, /*allow_exceptions=*/false);
}

std::string ProgramPath(const std::string& name) {
  const char* folder = std::getenv("CAIRN_BIN");
  CAIRN_CHECK(folder != nullptr);
  return absl::StrCat(folder, "/", name);
}

LiveHub::LiveHub(const std::string& root) : root_(root) {
  fs::create_directories(absl::StrCat(root_, "/logs"));
  ProcessResult made = RunProcess(
      {ProgramPath("cairnd"), "init", "--data-dir", absl::StrCat(root_, "/hub"),
       "--name", "127.0.0.1", "--name", "localhost"},
      CleanEnvironment(), kStartTimeout);
  if (made.code != 0) CAIRN_LOG(kError, "cairnd init: ", made.err);
  CAIRN_CHECK(made.code == 0);
}

LiveHub::~LiveHub() {
  for (auto& [index, worker] : workers_) worker->Kill();
  if (hub_ != nullptr) hub_->Kill();
}

void LiveHub::Start(const std::string& failpoints) {
  const std::string ready = absl::StrCat(root_, "/ready.json");
  const std::string log = absl::StrCat(root_, "/logs/cairnd.log");
  fs::remove(ready);
  std::map<std::string, std::string> env = CleanEnvironment();
  env["CAIRN_FAILPOINTS"] = failpoints;
  hub_ = std::make_unique<Process>(
      Process::Options{.argv = {ProgramPath("cairnd"), "--data-dir",
                                absl::StrCat(root_, "/hub"), "--listen", grpc_,
                                "--http-listen", http_, "--ready-file", ready},
                       .env = env,
                       .out_path = log,
                       .err_path = log});
  const absl::Time deadline = absl::Now() + kStartTimeout;
  while (!fs::exists(ready)) {
    CAIRN_CHECK(hub_->IsRunning() && absl::Now() < deadline);
    absl::SleepFor(absl::Milliseconds(10));
  }
  std::ifstream in(ready);
  const nlohmann::json told = nlohmann::json::parse(in);
  grpc_ = told.at("grpc").get<std::string>();
  http_ = told.at("http").get<std::string>();
  ca_ = told.at("ca").get<std::string>();
}

void LiveHub::Kill() { hub_->Kill(); }

int LiveHub::Stop() {
  hub_->Signal(SIGTERM);
  return hub_->Wait(absl::Seconds(30));
}

void LiveHub::StartWorker(int index) {
  const std::string name = absl::StrCat("worker-", index);
  if (!fs::exists(Home(name))) AddPerson(name, "worker");
  const std::string log = absl::StrCat(root_, "/logs/", name, ".log");
  workers_[index] = std::make_unique<Process>(Process::Options{
      .argv = {ProgramPath("cairn-worker"), "--hub", grpc_, "--home",
               Home(name), "--scratch", absl::StrCat(root_, "/scratch-", index),
               "--device", "cpu", "--threads", "1"},
      .env = CleanEnvironment(),
      .out_path = log,
      .err_path = log});
}

void LiveHub::KillWorker(int index) { workers_.at(index)->Kill(); }

CommandResult LiveHub::Run(const std::string& person,
                           const std::vector<std::string>& args,
                           absl::Duration timeout) {
  std::vector<std::string> argv = {ProgramPath("cairn")};
  argv.insert(argv.end(), args.begin(), args.end());
  argv.push_back("--json");
  std::map<std::string, std::string> env = CleanEnvironment();
  env["CAIRN_HOME"] = Home(person);
  env["CAIRN_HUB"] = grpc_;
  ProcessResult done = RunProcess(argv, env, timeout);
  return {.code = done.code, .out = done.out, .err = done.err};
}

void LiveHub::AddPerson(const std::string& name, const std::string& role) {
  fs::create_directories(Home(name));
  CommandResult user =
      Run("admin", {"admin", "user", "add", name, "--role", role});
  if (user.code != 0) CAIRN_LOG(kError, "user add: ", user.err);
  CAIRN_CHECK(user.code == 0);
  CommandResult token = Run("admin", {"admin", "token", "create", name});
  CAIRN_CHECK(token.code == 0);
  const std::string path = absl::StrCat(Home(name), "/token");
  std::ofstream(path) << token.json().at("token").get<std::string>();
  fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write);
  CommandResult init =
      Run(name, {"init", "--hub", grpc_, "--ca", ca_, "--identity", name});
  if (init.code != 0) CAIRN_LOG(kError, "init: ", init.err);
  CAIRN_CHECK(init.code == 0);
  CAIRN_CHECK(Run(name, {"identity", "register"}).code == 0);
}

std::string LiveHub::Home(const std::string& person) const {
  return person == "admin" ? absl::StrCat(root_, "/hub/admin")
                           : absl::StrCat(root_, "/homes/", person);
}

}  // namespace cairn::testing
