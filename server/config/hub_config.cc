#include "server/config/hub_config.h"

#include <sys/un.h>
#include <yaml-cpp/yaml.h>

#include <functional>
#include <map>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "core/base/file.h"
#include "core/base/host_port.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"

namespace cairn {
namespace {

constexpr int64_t kConfigBytesMax = 1 << 20;
constexpr absl::string_view kUnixPrefix = "unix:";
// What the address of a socket holds, less the zero at its end.
constexpr size_t kSocketPathBytesMax = sizeof(sockaddr_un::sun_path) - 1;

// A value's place in the file, for messages: "hub.yaml:3: uploads.open_max".
struct Place {
  absl::string_view label;
  int line = 1;
  std::string key;
};

absl::Status Wrong(const Place& place, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(place.label, ":", place.line, ": ", place.key, " ", what));
}

absl::StatusOr<std::string> Scalar(const Place& place, const YAML::Node& node,
                                   absl::string_view wanted) {
  if (!node.IsScalar() || node.Scalar().empty()) {
    return Wrong(place, absl::StrCat("must be ", wanted));
  }
  return node.Scalar();
}

using Reader =
    std::function<absl::Status(const Place& place, const YAML::Node& node)>;
using Section = std::map<std::string, Reader>;

Reader Text(std::string* out) {
  return [out](const Place& place, const YAML::Node& node) -> absl::Status {
    CAIRN_ASSIGN_OR_RETURN(*out, Scalar(place, node, "a text"));
    return absl::OkStatus();
  };
}

template <typename Int>
Reader Number(Int* out, Int smallest, Int largest) {
  return [=](const Place& place, const YAML::Node& node) -> absl::Status {
    std::string wanted =
        absl::StrCat("a whole number from ", smallest, " to ", largest);
    CAIRN_ASSIGN_OR_RETURN(std::string text, Scalar(place, node, wanted));
    Int value = 0;
    if (!absl::SimpleAtoi(text, &value) || value < smallest ||
        value > largest) {
      return Wrong(place, absl::StrCat("is '", text, "' and must be ", wanted));
    }
    *out = value;
    return absl::OkStatus();
  };
}

Reader Bytes(int64_t* out) {
  return Number(out, int64_t{0}, int64_t{1} << 50);
}

// Of a quota; -1: no limit.
Reader Amount(int64_t* out) {
  return Number(out, int64_t{-1}, int64_t{1} << 60);
}

Reader Time(absl::Duration* out, absl::Duration smallest) {
  return [=](const Place& place, const YAML::Node& node) -> absl::Status {
    std::string wanted =
        absl::StrCat("a duration such as 90s, 15m or 24h, at least ",
                     absl::FormatDuration(smallest));
    CAIRN_ASSIGN_OR_RETURN(std::string text, Scalar(place, node, wanted));
    absl::Duration value;
    if (!absl::ParseDuration(text, &value) || value < smallest ||
        value == absl::InfiniteDuration()) {
      return Wrong(place, absl::StrCat("is '", text, "' and must be ", wanted));
    }
    *out = value;
    return absl::OkStatus();
  };
}

Reader OneOf(std::string* out, std::set<std::string> choices) {
  return [=](const Place& place, const YAML::Node& node) -> absl::Status {
    std::string wanted = absl::StrCat("one of ", absl::StrJoin(choices, ", "));
    CAIRN_ASSIGN_OR_RETURN(std::string text, Scalar(place, node, wanted));
    if (!choices.contains(text)) {
      return Wrong(place, absl::StrCat("is '", text, "' and must be ", wanted));
    }
    *out = text;
    return absl::OkStatus();
  };
}

Reader Exposure(HttpExposure* out) {
  return [out](const Place& place, const YAML::Node& node) -> absl::Status {
    std::string text;
    CAIRN_RETURN_IF_ERROR(OneOf(&text, {"true", "false"})(place, node));
    *out = text == "true" ? HttpExposure::kBehindProxy
                          : HttpExposure::kLoopbackOnly;
    return absl::OkStatus();
  };
}

std::string KnownKeys(const Section& section) {
  return absl::StrJoin(section, ", ", [](std::string* out, const auto& entry) {
    absl::StrAppend(out, entry.first);
  });
}

absl::Status ReadSection(const Place& place, const YAML::Node& node,
                         const Section& section) {
  if (!node.IsMap()) {
    return Wrong(place, absl::StrCat("must be a mapping with keys of: ",
                                     KnownKeys(section)));
  }
  std::set<std::string> seen;
  for (const auto& entry : node) {
    if (!entry.first.IsScalar()) {
      return Wrong(place, "has a key that is not a text");
    }
    const std::string& key = entry.first.Scalar();
    Place at{place.label, entry.first.Mark().line + 1,
             place.key.empty() ? key : absl::StrCat(place.key, ".", key)};
    auto known = section.find(key);
    if (known == section.end()) {
      return Wrong(at, absl::StrCat("is not a setting; known here: ",
                                    KnownKeys(section)));
    }
    if (!seen.insert(key).second) {
      return Wrong(at, "is given twice");
    }
    CAIRN_RETURN_IF_ERROR(known->second(at, entry.second));
  }
  return absl::OkStatus();
}

Reader Nested(Section section) {
  return [section = std::move(section)](const Place& place,
                                        const YAML::Node& node) {
    return ReadSection(place, node, section);
  };
}

Section Settings(HubConfig& config) {
  constexpr int kMany = 1'000'000;
  constexpr absl::Duration kSecond = absl::Seconds(1);
  return {
      {"listen", Text(&config.listen)},
      {"plain_listen", Text(&config.plain_listen)},
      {"http_listen", Text(&config.http_listen)},
      {"behind_proxy", Exposure(&config.http_exposure)},
      {"tls", Nested({{"certificate", Text(&config.tls.certificate)},
                      {"key", Text(&config.tls.key)},
                      {"ca", Text(&config.tls.ca)}})},
      {"threads", Number(&config.threads, 1, 256)},
      {"requests_queued", Number(&config.requests_queued, 1, kMany)},
      {"uploads",
       Nested({{"open_max", Number(&config.uploads.open_max, 1, kMany)},
               {"idle_ttl", Time(&config.uploads.idle_ttl, kSecond)},
               {"bytes_max", Number(&config.uploads.bytes_max, int64_t{1},
                                    int64_t{1} << 50)},
               {"streams_max", Number(&config.uploads.streams_max, 1, 4096)},
               {"caller_streams_max",
                Number(&config.uploads.caller_streams_max, 1, 4096)}})},
      {"quota", Nested({{"stored_bytes", Amount(&config.quota.stored_bytes)},
                        {"contributions_per_day",
                         Amount(&config.quota.contributions_per_day)}})},
      {"organization_quota",
       Nested(
           {{"stored_bytes", Amount(&config.organization_quota.stored_bytes)},
            {"open_uploads", Amount(&config.organization_quota.open_uploads)},
            {"contributions_per_day",
             Amount(&config.organization_quota.contributions_per_day)}})},
      {"workers",
       Nested({{"lease_ttl", Time(&config.workers.lease_ttl, kSecond)},
               {"heartbeat", Time(&config.workers.heartbeat, kSecond / 10)}})},
      {"retention",
       Nested({{"rejected", Time(&config.retention.rejected, kSecond)},
               {"needs_review", Time(&config.retention.needs_review, kSecond)},
               {"unreferenced",
                Time(&config.retention.unreferenced, absl::Minutes(1))}})},
      {"storage",
       Nested({{"reserve_bytes", Bytes(&config.storage.reserve_bytes)},
               {"pack_bytes_per_second",
                Bytes(&config.storage.pack_bytes_per_second)},
               {"pack_after",
                Time(&config.storage.pack_after, absl::ZeroDuration())},
               {"scrub_bytes_per_second",
                Bytes(&config.storage.scrub_bytes_per_second)},
               {"scrub_every", Time(&config.storage.scrub_every, kSecond)},
               {"exchange", Text(&config.storage.exchange)}})},
      {"drain_timeout", Time(&config.drain_timeout, absl::ZeroDuration())},
      {"log_level",
       OneOf(&config.log_level, {"debug", "info", "warning", "error"})},
  };
}

// yaml-cpp reports by exceptions; they end here.
absl::StatusOr<YAML::Node> LoadYaml(absl::string_view yaml,
                                    absl::string_view label) {
  try {
    return YAML::Load(std::string(yaml));
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(
        label, ":", error.mark.line + 1, ": not YAML: ", error.msg));
  }
}

absl::Status CheckPlainListen(absl::string_view address) {
  absl::string_view path = address;
  if (absl::ConsumePrefix(&path, kUnixPrefix)) {
    if (absl::StartsWith(path, "/") && path.size() <= kSocketPathBytesMax) {
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(absl::StrCat(
        "plain_listen '", address, "' is not unix:/PATH with at most ",
        kSocketPathBytesMax, " characters"));
  }
  CAIRN_ASSIGN_OR_RETURN(HostPort plain,
                         ParseHostPort(address, "plain_listen"));
  if (IsLoopback(plain.host)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "plain_listen '", address,
      "' would take tokens in the clear from beyond this machine; use "
      "127.0.0.1, [::1] or unix:/PATH, and `listen` for others"));
}

}  // namespace

absl::StatusOr<HubConfig> ParseHubConfig(absl::string_view yaml,
                                         absl::string_view label) {
  CAIRN_ASSIGN_OR_RETURN(YAML::Node root, LoadYaml(yaml, label));
  HubConfig config;
  if (root.IsNull()) return config;
  CAIRN_RETURN_IF_ERROR(ReadSection({label, 1, ""}, root, Settings(config)));
  return config;
}

absl::StatusOr<HubConfig> LoadHubConfig(const std::string& path) {
  CAIRN_ASSIGN_OR_RETURN(std::string text, ReadFile(path, kConfigBytesMax));
  return ParseHubConfig(text, path);
}

absl::Status CheckHubConfig(const HubConfig& config) {
  CAIRN_RETURN_IF_ERROR(ParseHostPort(config.listen, "listen"));
  if (!config.plain_listen.empty()) {
    CAIRN_RETURN_IF_ERROR(CheckPlainListen(config.plain_listen));
  }
  CAIRN_ASSIGN_OR_RETURN(HostPort http,
                         ParseHostPort(config.http_listen, "http_listen"));
  if (!IsLoopback(http.host) &&
      config.http_exposure == HttpExposure::kLoopbackOnly) {
    return absl::InvalidArgumentError(absl::StrCat(
        "http_listen '", config.http_listen,
        "' would serve plain HTTP beyond this machine; use 127.0.0.1, or "
        "--behind-proxy when a TLS proxy stands before it"));
  }
  if (config.workers.heartbeat * 2 > config.workers.lease_ttl) {
    return absl::InvalidArgumentError(absl::StrCat(
        "workers.heartbeat ", absl::FormatDuration(config.workers.heartbeat),
        " is more than half of workers.lease_ttl ",
        absl::FormatDuration(config.workers.lease_ttl),
        ": one lost heartbeat would end a lease"));
  }
  return absl::OkStatus();
}

}  // namespace cairn
