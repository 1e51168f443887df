#include "core/base/json_value.h"

#include <gtest/gtest.h>

#include "core/base/status_util.h"

namespace cairn {
namespace {

std::string ReasonOf(const absl::StatusOr<JsonValue>& value) {
  auto reason = GetReason(value.status());
  return reason.has_value() ? reason->code : "";
}

TEST(JsonValueTest, KeepsTheOrderOfKeys) {
  auto value = JsonValue::Parse(R"({"b":1,"a":[true,null,-2.5,"x"]})", "f");
  ASSERT_TRUE(value.ok()) << value.status();
  const auto& object = *value->as_object();
  ASSERT_EQ(object.size(), 2U);
  EXPECT_EQ(object[0].first, "b");
  EXPECT_EQ(*object[0].second.as_int(), 1);
  const auto& array = *object[1].second.as_array();
  EXPECT_TRUE(*array[0].as_bool());
  EXPECT_TRUE(array[1].is_null());
  EXPECT_EQ(array[2].AsDouble(), -2.5);
  EXPECT_EQ(*array[3].as_string(), "x");
}

TEST(JsonValueTest, RefusesWhatLenientParsersLetThrough) {
  const std::string nul("{}\0", 3);
  for (const std::string& text :
       {std::string(R"({"a":1,"a":2})"), nul, std::string("{} {}"),
        std::string("{'a':1}"), std::string("[1,]"), std::string(""),
        std::string("\"\xff\""), std::string("NaN"), std::string("// x\n1")}) {
    auto value = JsonValue::Parse(text, "the.json");
    EXPECT_EQ(ReasonOf(value), "MALFORMED_FILE") << text;
    EXPECT_EQ(value.status().message().find("the.json: "), 0U) << text;
  }
}

TEST(JsonValueTest, AllowsKeysOfTheSameNameInDifferentObjects) {
  EXPECT_TRUE(JsonValue::Parse(R"({"a":{"a":1},"b":{"a":1}})", "f").ok());
}

TEST(JsonValueTest, LimitsDepth) {
  std::string fits(32, '[');
  fits += std::string(32, ']');
  EXPECT_TRUE(JsonValue::Parse(fits, "f").ok());
  std::string deep(1'000'000, '[');
  EXPECT_EQ(ReasonOf(JsonValue::Parse(deep, "f")), "LIMIT_EXCEEDED");
}

TEST(JsonValueTest, QuotesAsJsonDemands) {
  EXPECT_EQ(JsonQuote("a\"\\\n\x01\x1f é"), "\"a\\\"\\\\\\n\\u0001\\u001f é\"");
}

TEST(JsonValueTest, TellsWhichTextsAreTooDeepForRecursion) {
  const auto nested = [](int depth) {
    return std::string(static_cast<size_t>(depth), '[') +
           std::string(static_cast<size_t>(depth), ']');
  };
  EXPECT_FALSE(IsDeepJson(nested(JsonValue::kDepthMax)));
  EXPECT_TRUE(IsDeepJson(nested(JsonValue::kDepthMax + 1)));
  EXPECT_TRUE(IsDeepJson(R"({"a":)" + nested(JsonValue::kDepthMax)));
  EXPECT_FALSE(IsDeepJson("[" + nested(20) + "," + nested(20) + "]"));
  EXPECT_FALSE(IsDeepJson(R"({"[\"[[":")" + nested(40) + "\"}"));
  EXPECT_FALSE(IsDeepJson("\"\\"));
}

}  // namespace
}  // namespace cairn
