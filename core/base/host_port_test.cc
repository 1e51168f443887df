#include "core/base/host_port.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

TEST(HostPortTest, ParsesAndFormatsAddresses) {
  auto v6 = ParseHostPort("[::1]:80", "listen");
  ASSERT_TRUE(v6.ok());
  EXPECT_EQ(v6->host, "::1");
  EXPECT_EQ(v6->port, 80);
  EXPECT_EQ(FormatHostPort(*v6), "[::1]:80");
  EXPECT_EQ(FormatHostPort({.host = "hub.example.org", .port = 7443}),
            "hub.example.org:7443");
  for (absl::string_view bad : {"", "host", "host:", ":80", "host:x",
                                "host:65536", "host:-1", "::1:80", "[::1:80"}) {
    EXPECT_EQ(ParseHostPort(bad, "listen").status().code(),
              absl::StatusCode::kInvalidArgument)
        << bad;
  }
}

TEST(HostPortTest, OnlyThisMachineIsLoopback) {
  for (absl::string_view host : {"localhost", "127.0.0.1", "127.9.8.7", "::1"}) {
    EXPECT_TRUE(IsLoopback(host)) << host;
  }
  for (absl::string_view host :
       {"", "0.0.0.0", "::", "10.0.0.1", "127.example.org", "127.0.0.1.nip.io",
        "localhost.example.org", "128.0.0.1", "1.127.0.0"}) {
    EXPECT_FALSE(IsLoopback(host)) << host;
  }
}

}  // namespace
}  // namespace cairn
