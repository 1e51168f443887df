#include "core/rpc/hub_address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cairn {
namespace {

using ::testing::HasSubstr;

TEST(HubAddressTest, AddressesAreForTlsUnlessTheySayOtherwise) {
  for (absl::string_view text : {"hub.example.org:7443", "127.0.0.1:7443",
                                 "https://hub.example.org:7443"}) {
    auto address = ParseHubAddress(text);
    ASSERT_TRUE(address.ok()) << address.status();
    EXPECT_EQ(address->security, HubAddress::Security::kTls) << text;
  }
  EXPECT_EQ(ParseHubAddress("https://h:1")->target, "h:1");
}

TEST(HubAddressTest, WithoutTlsNothingLeavesTheMachine) {
  const struct {
    const char* text;
    const char* target;
  } kPlain[] = {{"http://127.0.0.1:7444", "127.0.0.1:7444"},
                {"http://localhost:7444", "127.0.0.1:7444"},
                {"http://[::1]:7444", "[::1]:7444"},
                {"unix:/run/cairn/hub.sock", "unix:/run/cairn/hub.sock"}};
  for (const auto& [text, target] : kPlain) {
    auto address = ParseHubAddress(text);
    ASSERT_TRUE(address.ok()) << address.status();
    EXPECT_EQ(address->security, HubAddress::Security::kPlain) << text;
    EXPECT_EQ(address->target, target);
  }
  for (absl::string_view text :
       {"http://hub.example.org:7443", "http://10.0.0.1:7443",
        "http://127.example.org:7443", "http://127.0.0.1@10.0.0.1:7443"}) {
    auto address = ParseHubAddress(text);
    EXPECT_TRUE(absl::IsInvalidArgument(address.status())) << text;
    EXPECT_THAT(std::string(address.status().message()),
                HasSubstr("in the clear"));
  }
  EXPECT_FALSE(ParseHubAddress("http://127.0.0.1").ok());
}

}  // namespace
}  // namespace cairn
