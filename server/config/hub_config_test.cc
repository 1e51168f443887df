#include "server/config/hub_config.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

TEST(HubConfigTest, EmptyFileGivesTheDefaults) {
  auto config = ParseHubConfig("# nothing\n", "hub.yaml");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->listen, "127.0.0.1:7443");
  EXPECT_TRUE(CheckHubConfig(*config).ok());
}

TEST(HubConfigTest, ReadsEverySetting) {
  auto config = ParseHubConfig(R"(
listen: 0.0.0.0:443
http_listen: "[::1]:80"
behind_proxy: true
tls: {certificate: /c.pem, key: /k.pem, ca: /a.pem}
threads: 3
requests_queued: 7
uploads: {open_max: 2, idle_ttl: 1h, bytes_max: 1000, streams_max: 5,
          caller_streams_max: 4}
quota: {stored_bytes: 1000000, contributions_per_day: 9}
organization_quota: {open_uploads: 30, stored_bytes: -1}
workers: {lease_ttl: 10s, heartbeat: 2s}
retention: {rejected: 1h, needs_review: 2h, unreferenced: 3h}
drain_timeout: 5s
log_level: debug
)",
                               "hub.yaml");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->listen, "0.0.0.0:443");
  EXPECT_EQ(config->http_exposure, HttpExposure::kBehindProxy);
  EXPECT_EQ(config->tls.key, "/k.pem");
  EXPECT_EQ(config->uploads.idle_ttl, absl::Hours(1));
  EXPECT_EQ(config->uploads.bytes_max, 1000);
  EXPECT_EQ(config->uploads.caller_streams_max, 4);
  EXPECT_EQ(config->quota.stored_bytes, 1'000'000);
  EXPECT_EQ(config->quota.contributions_per_day, 9);
  EXPECT_EQ(config->organization_quota.open_uploads, 30);
  EXPECT_EQ(config->organization_quota.stored_bytes, -1);
  EXPECT_EQ(config->workers.heartbeat, absl::Seconds(2));
  EXPECT_EQ(config->retention.unreferenced, absl::Hours(3));
  EXPECT_EQ(config->log_level, "debug");
}

struct BadConfig {
  absl::string_view yaml;
  absl::string_view message;
};

TEST(HubConfigTest, NamesLineAndKeyOfWhatIsWrong) {
  const BadConfig cases[] = {
      {"listen: a:1\nlissten: b:2\n", "hub.yaml:2: lissten is not a setting"},
      {"\n\nuploads:\n  open_mx: 3\n",
       "hub.yaml:4: uploads.open_mx is not a setting; known here: bytes_max"},
      {"threads: 1\nthreads: 2\n", "hub.yaml:2: threads is given twice"},
      {"threads: many\n", "hub.yaml:1: threads is 'many' and must be a whole"},
      {"threads: 0\n", "from 1 to 256"},
      {"threads: 1.5\n", "'1.5'"},
      {"threads: [1]\n", "hub.yaml:1: threads must be a whole number"},
      {"uploads: 3\n", "hub.yaml:1: uploads must be a mapping"},
      {"uploads: {idle_ttl: 3}\n", "hub.yaml:1: uploads.idle_ttl is '3'"},
      {"uploads: {idle_ttl: -3s}\n", "at least 1s"},
      {"drain_timeout: inf\n", "drain_timeout is 'inf'"},
      {"behind_proxy: yes\n", "behind_proxy is 'yes' and must be one of false"},
      {"log_level: loud\n", "log_level is 'loud'"},
      {"listen:\n", "hub.yaml:1: listen must be a text"},
      {"- listen\n", "must be a mapping"},
      {"? [a]\n: b\n", "has a key that is not a text"},
      {"listen: [a\n", "not YAML"},
      {"a: b: c\n", "hub.yaml:1: not YAML"},
  };
  for (const BadConfig& bad : cases) {
    auto config = ParseHubConfig(bad.yaml, "hub.yaml");
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument)
        << bad.yaml;
    EXPECT_THAT(std::string(config.status().message()),
                HasSubstr(std::string(bad.message)));
  }
}

TEST(HubConfigTest, PlainHttpStaysOnLoopbackUnlessBehindAProxy) {
  HubConfig config;
  config.http_listen = "0.0.0.0:80";
  EXPECT_THAT(std::string(CheckHubConfig(config).message()),
              HasSubstr("--behind-proxy"));
  config.http_exposure = HttpExposure::kBehindProxy;
  EXPECT_TRUE(CheckHubConfig(config).ok());
}

TEST(HubConfigTest, LeaseOutlivesALostHeartbeat) {
  HubConfig config;
  config.workers.heartbeat = absl::Seconds(31);
  EXPECT_THAT(std::string(CheckHubConfig(config).message()),
              HasSubstr("workers.heartbeat 31s"));
}

TEST(HubConfigTest, PlainGrpcStaysOnThisMachine) {
  HubConfig config;
  for (const char* local : {"127.0.0.1:7444", "localhost:0", "[::1]:7444",
                            "unix:/run/cairn/hub.sock"}) {
    config.plain_listen = local;
    EXPECT_TRUE(CheckHubConfig(config).ok()) << local;
  }
  for (const char* open : {"0.0.0.0:7444", "[::]:7444", "10.0.0.7:7444",
                           "127.example.org:7444"}) {
    config.plain_listen = open;
    EXPECT_THAT(std::string(CheckHubConfig(config).message()),
                HasSubstr("in the clear"))
        << open;
  }
  for (const std::string& bad :
       {std::string("7444"), std::string("unix:hub.sock"), std::string("unix:"),
        "unix:/" + std::string(200, 'x')}) {
    config.plain_listen = bad;
    EXPECT_FALSE(CheckHubConfig(config).ok()) << bad;
  }
}

}  // namespace
}  // namespace cairn
