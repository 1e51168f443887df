#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/base/allocation.h"
#include "core/base/ed25519.h"
#include "core/base/failpoint.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "server/backup/hub_restore.h"
#include "server/config/hub_config.h"
#include "server/flow/schema.h"
#include "server/hub_server.h"
#include "server/setup/hub_keys.h"
#include "server/setup/hub_setup.h"
#include "storage/rocksdb/rocksdb_metadata_store.h"

namespace cairn {
namespace {

constexpr char kServeExample[] =
    "Examples:\n"
    "  cairnd init --data-dir /var/lib/cairn --name hub.example.org\n"
    "  cairnd --data-dir /var/lib/cairn --listen 0.0.0.0:7443\n"
    "  CAIRN_HOME=/var/lib/cairn/admin cairn admin user add ada "
    "--role contributor\n";
constexpr char kInitExample[] =
    "Example:\n"
    "  cairnd init --data-dir /var/lib/cairn --name hub.example.org --name "
    "10.0.0.7\n";
constexpr char kDelegateExample[] =
    "Example:\n"
    "  cairnd delegate --data-dir /var/lib/cairn --root-key "
    "/media/safe/root.key --days 365\n";

constexpr char kCertifyExample[] =
    "Example:\n"
    "  cairnd certify --data-dir /var/lib/cairn --name hub.example.org\n";

constexpr char kRestoreExample[] =
    "Example:\n"
    "  cairnd restore --from /backup/cairn --data-dir /var/lib/cairn\n";

struct Flags {
  std::string data_dir;
  std::vector<std::string> names;
  std::string address;
  std::string config;
  std::string listen;
  std::string plain_listen;
  std::string http_listen;
  std::string ready_file;
  bool is_behind_proxy = false;
  std::string backup;
  std::string snapshot;
  std::string root_key;
  int days = 365;
};

// As the `cairn` command's: what a script can tell apart.
int ExitCode(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kNotFound:
      return 3;
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return 4;
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kAlreadyExists:
      return 5;
    case absl::StatusCode::kDataLoss:
      return 7;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return 8;
    default:
      return 1;
  }
}

absl::Status Init(const Flags& flags) {
  HubSetupOptions options{
      .data_dir = flags.data_dir,
      .open_store = [](const std::string& directory)
          -> absl::StatusOr<std::unique_ptr<MetadataStore>> {
        return RocksMetadataStore::Open(directory, HubSchema());
      }};
  if (!flags.names.empty()) options.names = flags.names;
  if (!flags.address.empty()) options.address = flags.address;
  CAIRN_ASSIGN_OR_RETURN(HubSetupResult made,
                         InitHub(options, Clock::System()));
  std::cout
      << "Hub " << made.hub_id << " is set up in " << flags.data_dir << "\n"
      << "Root key fingerprint: " << made.root_fingerprint << "\n"
      << "  Clients pin it. To take the root key offline, move\n  "
      << made.root_key_file
      << "\n  to a medium that is kept away from this machine. The hub runs "
         "without it;\n  once a year, or if the release key leaks, run:\n"
      << "  cairnd delegate --data-dir " << flags.data_dir
      << " --root-key FILE\n"
      << "Administrator's home: " << made.admin_home << "\n"
      << "  Keep it out of backups. Use it with: CAIRN_HOME=" << made.admin_home
      << " cairn admin user add NAME --role ROLE\n"
      << "Start the hub with: cairnd --data-dir " << flags.data_dir << "\n";
  return absl::OkStatus();
}

absl::Status Delegate(const Flags& flags) {
  CAIRN_ASSIGN_OR_RETURN(std::string seed, ReadFile(flags.root_key));
  CAIRN_ASSIGN_OR_RETURN(
      SigningKey root,
      SigningKey::FromSeedHex(absl::StripAsciiWhitespace(seed)));
  CAIRN_RETURN_IF_ERROR(RenewDelegation(flags.data_dir, root,
                                        Clock::System().Now(),
                                        absl::Hours(24) * flags.days));
  std::cout << "A new release key signs for " << flags.days
            << " days; restart the hub to use it.\n";
  return absl::OkStatus();
}

absl::Status Certify(const Flags& flags) {
  CAIRN_RETURN_IF_ERROR(RenewServerCertificate(flags.data_dir, flags.names,
                                               Clock::System().Now()));
  std::cout << "A new server certificate is in place; restart the hub to use "
               "it.\n";
  return absl::OkStatus();
}

absl::Status Restore(const Flags& flags) {
  RestoreOptions options{.backup = flags.backup,
                         .snapshot = flags.snapshot,
                         .data_dir = flags.data_dir};
  if (!flags.address.empty()) options.address = flags.address;
  CAIRN_ASSIGN_OR_RETURN(RestoreReport report,
                         RestoreHub(options, Clock::System()));
  std::cout << "Restored snapshot " << report.snapshot << " with "
            << report.blobs << " blobs, each compared with its digest, to "
            << flags.data_dir
            << "\nNew administrator's home: " << report.admin_home
            << "\nThe root key is in no backup: keep the one you have.\n"
            << "Start the hub with: cairnd --data-dir " << flags.data_dir
            << "\n";
  return absl::OkStatus();
}

absl::StatusOr<HubConfig> ReadConfig(const Flags& flags) {
  HubConfig config;
  if (!flags.config.empty()) {
    CAIRN_ASSIGN_OR_RETURN(config, LoadHubConfig(flags.config));
  }
  if (!flags.listen.empty()) config.listen = flags.listen;
  if (!flags.plain_listen.empty()) config.plain_listen = flags.plain_listen;
  if (!flags.http_listen.empty()) config.http_listen = flags.http_listen;
  if (flags.is_behind_proxy) {
    config.http_exposure = HttpExposure::kBehindProxy;
  }
  return config;
}

// Waits for SIGTERM or SIGINT, which every thread has blocked.
void WaitForEnd(const sigset_t& signals) {
  int signal = 0;
  while (sigwait(&signals, &signal) != 0) {
  }
}

absl::Status Serve(const Flags& flags) {
  // Before any thread is made, so that all inherit it.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  KeepFreedBuffers();
  CAIRN_RETURN_IF_ERROR(ArmFailpointsFromEnvironment());

  CAIRN_ASSIGN_OR_RETURN(HubConfig config, ReadConfig(flags));
  CAIRN_ASSIGN_OR_RETURN(
      auto server,
      HubServer::Start({.data_dir = flags.data_dir, .config = config}));
  CAIRN_LOG(kInfo, "serving gRPC on ", server->grpc_address(), " and HTTP on ",
            server->http_address());
  if (!flags.ready_file.empty()) {
    nlohmann::ordered_json ready = {{"grpc", server->grpc_address()},
                                    {"http", server->http_address()},
                                    {"ca", server->ca_path()}};
    if (!server->plain_address().empty()) {
      ready["plain"] = server->plain_address();
    }
    CAIRN_RETURN_IF_ERROR(WriteFile(flags.ready_file, ready.dump() + "\n"));
  }
  WaitForEnd(signals);
  server->Stop();
  if (!flags.ready_file.empty()) unlink(flags.ready_file.c_str());
  CAIRN_LOG(kInfo, "ended");
  return absl::OkStatus();
}

void AddServeFlags(CLI::App& app, Flags& flags) {
  app.footer(kServeExample);
  app.set_version_flag("--version", CAIRN_VERSION);
  app.add_option("--data-dir", flags.data_dir,
                 "Directory that `cairnd init` made");
  app.add_option("--config", flags.config, "Settings, YAML; flags win over it");
  app.add_option("--listen", flags.listen,
                 "gRPC over TLS: HOST:PORT, port 0 picks one "
                 "[127.0.0.1:7443]");
  app.add_option("--plain-listen", flags.plain_listen,
                 "gRPC without TLS for clients on this machine: "
                 "127.0.0.1:PORT or unix:/PATH [none]");
  app.add_option("--http-listen", flags.http_listen,
                 "/healthz and /metrics: HOST:PORT [127.0.0.1:7480]");
  app.add_option("--ready-file", flags.ready_file,
                 "Written once the hub serves: {\"grpc\",\"http\",\"ca\"} and, if "
                 "there is one, \"plain\"");
  app.add_flag("--behind-proxy", flags.is_behind_proxy,
               "Let --http-listen leave loopback: a TLS proxy stands before "
               "it");
}

CLI::App* AddInit(CLI::App& app, Flags& flags) {
  CLI::App* init = app.add_subcommand(
      "init", "Make certificates, keys and the first administrator");
  init->footer(kInitExample);
  init->add_option("--data-dir", flags.data_dir, "Directory to make")
      ->required();
  init->add_option("--name", flags.names,
                   "Host name or address of the hub; may be repeated "
                   "[localhost, 127.0.0.1]");
  init->add_option("--address", flags.address,
                   "HOST:PORT that the administrator's home names "
                   "[127.0.0.1:7443]");
  return init;
}

CLI::App* AddDelegate(CLI::App& app, Flags& flags) {
  CLI::App* delegate = app.add_subcommand(
      "delegate", "Make a new release key, signed by the root key");
  delegate->footer(kDelegateExample);
  delegate->add_option("--data-dir", flags.data_dir, "The hub's directory")
      ->required();
  delegate
      ->add_option("--root-key", flags.root_key,
                   "File with the root key, as `init` wrote it")
      ->required();
  delegate->add_option("--days", flags.days, "How long it holds [365]")
      ->check(CLI::Range(1, 3650));
  return delegate;
}

CLI::App* AddCertify(CLI::App& app, Flags& flags) {
  CLI::App* certify = app.add_subcommand(
      "certify", "Make a new server certificate under the same authority");
  certify->footer(kCertifyExample);
  certify->add_option("--data-dir", flags.data_dir, "The hub's directory")
      ->required();
  certify
      ->add_option("--name", flags.names,
                   "Host name or address of the hub; may be repeated")
      ->required();
  return certify;
}

CLI::App* AddRestore(CLI::App& app, Flags& flags) {
  CLI::App* restore = app.add_subcommand(
      "restore", "Make a data directory of a backup, and verify every byte");
  restore->footer(kRestoreExample);
  restore
      ->add_option("--from", flags.backup,
                   "Directory that `cairn admin backup` wrote to")
      ->required();
  restore->add_option("--snapshot", flags.snapshot,
                      "Name of the snapshot [the newest]");
  restore
      ->add_option("--data-dir", flags.data_dir,
                   "Directory to make; it must not exist, or be empty")
      ->required();
  restore->add_option("--address", flags.address,
                      "HOST:PORT that the administrator's home names "
                      "[127.0.0.1:7443]");
  return restore;
}

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app("cairnd: the hub of a Cairn community", "cairnd");
  AddServeFlags(app, flags);
  CLI::App* init = AddInit(app, flags);
  CLI::App* delegate = AddDelegate(app, flags);
  CLI::App* certify = AddCertify(app, flags);
  CLI::App* restore = AddRestore(app, flags);
  try {
    app.parse(argc, argv);
    if (app.get_subcommands().empty() && flags.data_dir.empty()) {
      throw CLI::RequiredError("--data-dir");
    }
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  absl::Status status = init->parsed()       ? Init(flags)
                        : delegate->parsed() ? Delegate(flags)
                        : certify->parsed()  ? Certify(flags)
                        : restore->parsed()  ? Restore(flags)
                                             : Serve(flags);
  if (!status.ok()) {
    std::cerr << "cairnd: " << status.message() << "\n";
  }
  return ExitCode(status);
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) { return cairn::Main(argc, argv); }
