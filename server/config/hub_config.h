#ifndef CAIRN_SERVER_CONFIG_HUB_CONFIG_H_
#define CAIRN_SERVER_CONFIG_HUB_CONFIG_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace cairn {

// Whether the plain HTTP listener may leave loopback.
enum class HttpExposure { kLoopbackOnly, kBehindProxy };

// What a hub is started with. The YAML file has the same names; README.md of
// this folder lists them. Flags of cairnd win over the file.
struct HubConfig {
  struct Tls {
    // PEM files; relative to the data directory.
    std::string certificate = "tls/server.pem";
    std::string key = "tls/server.key";
    // What clients trust; written to the ready file.
    std::string ca = "tls/ca.pem";
  };
  struct Uploads {
    int open_max = 16;                          // open uploads an identity
    absl::Duration idle_ttl = absl::Hours(24);  // then an idle one is dropped
    int64_t bytes_max = int64_t{1} << 40;       // largest single upload
    int streams_max = 64;         // streams that move data at once
    int caller_streams_max = 16;  // the same of one caller
  };
  // What an identity, or an organisation, may use unless an administrator says
  // otherwise; -1: no limit. An identity's open uploads are uploads.open_max.
  struct Quota {
    int64_t stored_bytes = -1;
    int64_t open_uploads = -1;
    int64_t contributions_per_day = -1;
  };
  struct Workers {
    absl::Duration lease_ttl = absl::Seconds(60);
    absl::Duration heartbeat = absl::Seconds(15);
  };
  struct Retention {
    // Bytes of refused updates.
    absl::Duration rejected = absl::Hours(24 * 7);
    // Contributions that nobody reviews are withdrawn.
    absl::Duration needs_review = absl::Hours(24 * 30);
    // Blobs that no record names.
    absl::Duration unreferenced = absl::Hours(24);
  };
  struct Storage {
    // Space that blobs leave free for records; 0: none.
    int64_t reserve_bytes = 256 << 20;
    // Background work on blobs, in bytes read a second; 0: none.
    int64_t pack_bytes_per_second = 64 << 20;
    int64_t scrub_bytes_per_second = 32 << 20;
    // How long a blob is left as it came.
    absl::Duration pack_after = absl::Minutes(10);
    // From the end of one scrub of everything to the next.
    absl::Duration scrub_every = absl::Hours(24 * 7);
    // Directory of this machine that maintainers may import checkpoints from
    // and export releases to; empty: none.
    std::string exchange;
  };

  std::string listen = "127.0.0.1:7443";
  // gRPC without TLS, for clients on this machine: HOST:PORT on loopback or
  // unix:/PATH; empty: none.
  std::string plain_listen;
  std::string http_listen = "127.0.0.1:7480";
  HttpExposure http_exposure = HttpExposure::kLoopbackOnly;
  Tls tls;
  int threads = 8;             // that run requests which touch the disk
  int requests_queued = 1024;  // requests that may wait for a thread
  Uploads uploads;
  Quota quota = {.stored_bytes = int64_t{1} << 40,
                 .open_uploads = -1,
                 .contributions_per_day = 1000};
  Quota organization_quota;
  Workers workers;
  Retention retention;
  Storage storage;
  absl::Duration drain_timeout = absl::Seconds(5);
  std::string log_level = "info";
};

// Reads YAML over the defaults. Strict: INVALID_ARGUMENT naming `label`, the
// line and the key for a key that is unknown or given twice, a value of the
// wrong kind or out of range, and for YAML that does not parse.
absl::StatusOr<HubConfig> ParseHubConfig(absl::string_view yaml,
                                         absl::string_view label);
// NOT_FOUND when there is no such file.
absl::StatusOr<HubConfig> LoadHubConfig(const std::string& path);

// Rules between settings: addresses parse, what is without TLS stays on this
// machine, but HTTP behind a proxy. Call after flags were applied.
absl::Status CheckHubConfig(const HubConfig& config);

}  // namespace cairn

#endif  // CAIRN_SERVER_CONFIG_HUB_CONFIG_H_
