// cairn-worker: leases jobs from a hub and runs them.

#include <pthread.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/rpc/hub_address.h"
#include "core/rpc/hub_channel.h"
#include "merge/model/load_model.h"
#include "merge/tensor/compute.h"
#include "merge/worker/device_class.h"
#include "merge/worker/job_runner.h"
#include "merge/worker/worker_loop.h"

namespace cairn {
namespace {

struct Flags {
  std::string hub;
  std::string home;
  std::string token_file;
  std::string scratch;
  std::string device = "cpu";
  uint64_t memory = uint64_t{8} << 30;
  uint64_t cache = uint64_t{32} << 30;
  int threads = 0;
  double job_hours = 6;
  bool is_once = false;
  // The job process.
  std::string run_job;
  std::string releases;
};

std::string DefaultHome() {
  const char* home = std::getenv("HOME");
  return absl::StrCat(home == nullptr ? "" : home, "/.config/cairn");
}

void AddFlags(CLI::App& app, Flags& flags) {
  app.add_option("--hub", flags.hub, "the hub's gRPC address: HOST:PORT; on its own machine also "
                 "http://127.0.0.1:PORT or unix:/PATH, without TLS")
      ->envname("CAIRN_HUB");
  app.add_option("--home", flags.home, "folder with token and ca.pem")
      ->envname("CAIRN_HOME")
      ->default_val(DefaultHome());
  app.add_option("--token-file", flags.token_file,
                 "the token, instead of HOME/token")
      ->envname("CAIRN_TOKEN_FILE");
  app.add_option("--scratch", flags.scratch,
                 "folder for downloads and running jobs, one a worker; "
                 "default HOME/worker");
  app.add_option("--device", flags.device, "cpu, cuda or cuda:N")
      ->capture_default_str();
  app.add_option("--memory", flags.memory,
                 "private memory that a job may use, e.g. 8GiB")
      ->transform(CLI::AsSizeValue(false))
      ->default_str("8GiB");
  app.add_option("--cache", flags.cache,
                 "disk space for releases that are kept between jobs")
      ->transform(CLI::AsSizeValue(false))
      ->default_str("32GiB");
  app.add_option("--threads", flags.threads,
                 "threads of a job; default: all processors")
      ->check(CLI::Range(1, 1024));
  app.add_option("--job-hours", flags.job_hours, "longest run of a job")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag("--once", flags.is_once,
               "do one job if there is one, then exit");
  app.add_option("--run-job", flags.run_job)->group("");
  app.add_option("--releases", flags.releases)->group("");
  app.footer(
      "Example:\n"
      "  cairn-worker --hub hub.example.org:7443 --home /etc/cairn/worker \\\n"
      "    --scratch /var/tmp/cairn-worker --memory 16GiB --threads 8\n\n"
      "The home is made by `cairn init` and holds the token of a user with\n"
      "role worker. SIGTERM ends the worker; its job is then done by another.");
}

int RunJobProcessOf(const Flags& flags) {
  InitCompute();
  JobContext context = {
      .layout = JobLayout(flags.run_job, flags.releases),
      .device = flags.device,
      .threads = flags.threads,
      .memory_bytes = static_cast<int64_t>(flags.memory),
      .device_class = DeviceClass(flags.device),
      .progress = nullptr,
  };
  return RunJobProcessMain(std::move(context));
}

absl::StatusOr<std::string> ReadToken(const Flags& flags) {
  const char* token = std::getenv("CAIRN_TOKEN");
  if (flags.token_file.empty() && token != nullptr) return std::string(token);
  const std::string path =
      flags.token_file.empty() ? flags.home + "/token" : flags.token_file;
  CAIRN_ASSIGN_OR_RETURN(std::string text, ReadFile(path, 4096));
  return std::string(absl::StripAsciiWhitespace(text));
}

absl::Status Serve(const Flags& flags, const std::stop_token& stop) {
  if (flags.hub.empty()) {
    return absl::InvalidArgumentError(
        "no hub: give --hub HOST:PORT or set CAIRN_HUB");
  }
  CAIRN_RETURN_IF_ERROR(ParseDevice(flags.device).status());
  CAIRN_ASSIGN_OR_RETURN(HubAddress address, ParseHubAddress(flags.hub));
  std::string ca;
  if (address.security == HubAddress::Security::kTls) {
    CAIRN_ASSIGN_OR_RETURN(ca, ReadFile(flags.home + "/ca.pem"));
  }
  CAIRN_ASSIGN_OR_RETURN(std::string token, ReadToken(flags));
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<HubChannel> hub,
                         HubChannel::Create({.address = flags.hub,
                                             .ca_pem = std::move(ca),
                                             .token = std::move(token),
                                             .stop = stop}));
  WarnIfMatrixProductsAreSlow();
  CAIRN_ASSIGN_OR_RETURN(
      std::unique_ptr<WorkerLoop> loop,
      WorkerLoop::Create(
          *hub,
          {.scratch =
               flags.scratch.empty() ? flags.home + "/worker" : flags.scratch,
           .device = flags.device,
           .device_class = DeviceClass(flags.device),
           .threads = flags.threads > 0 ? flags.threads : AvailableProcessors(),
           .memory_bytes = static_cast<int64_t>(flags.memory),
           .cache_bytes = static_cast<int64_t>(flags.cache),
           .job_time = absl::Hours(flags.job_hours),
           .is_once = flags.is_once}));
  return loop->Run();
}

int ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kInvalidArgument:
      return 2;
    case absl::StatusCode::kNotFound:
      return 3;
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return 4;
    case absl::StatusCode::kFailedPrecondition:
      return 5;
    case absl::StatusCode::kUnavailable:
      return 8;
    default:
      return 1;
  }
}

int ServeUntilSignal(const Flags& flags) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::stop_source stop;
  std::jthread waiter([&stop, signals](const std::stop_token& ended) {
    const timespec poll = {.tv_sec = 0, .tv_nsec = 200'000'000};
    while (!ended.stop_requested()) {
      if (sigtimedwait(&signals, nullptr, &poll) > 0) stop.request_stop();
    }
  });
  InitCompute();
  absl::Status status = Serve(flags, stop.get_token());
  if (!status.ok()) CAIRN_LOG(kError, status.message());
  return ExitCodeOf(status);
}

int Main(int argc, char** argv) {
  CLI::App app("Runs a hub's evaluation and merge jobs.", "cairn-worker");
  Flags flags;
  AddFlags(app, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return flags.run_job.empty() ? ServeUntilSignal(flags)
                               : RunJobProcessOf(flags);
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) { return cairn::Main(argc, argv); }
