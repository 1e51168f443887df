#include "client/cli/output.h"

#include <gtest/gtest.h>

#include "cairn/v1/tag.pb.h"
#include "core/base/status_util.h"

namespace cairn::cli {
namespace {

TEST(OutputTest, ErrorsCarryCodeReasonAndDetails) {
  absl::Status status = ReasonedError(
      absl::StatusCode::kFailedPrecondition, "BASE_DIGEST_MISMATCH",
      "no \"such\" base", {{"contribution", "models/m/contributions/c"}});
  EXPECT_EQ(ErrorJson(status),
            R"({"error":{"code":"FAILED_PRECONDITION",)"
            R"("message":"no \"such\" base","reason":"BASE_DIGEST_MISMATCH",)"
            R"("details":{"contribution":"models/m/contributions/c"}}})");
}

TEST(OutputTest, ErrorsOfAnyBytesAreStillJson) {
  EXPECT_NE(ErrorJson(absl::InternalError("\xff")).find("\xEF\xBF\xBD"),
            std::string::npos);
}

TEST(OutputTest, DefaultsArePrinted) {
  v1::Tag tag;
  tag.set_name("models/m/tags/t");
  EXPECT_EQ(ToJson(tag, JsonStyle::kLine),
            R"({"name":"models/m/tags/t","release":"","etag":""})");
}

TEST(OutputTest, ListsHaveItemsAndAToken) {
  EXPECT_EQ(ListJson({}), R"({"items":[],"nextPageToken":""})");
  EXPECT_EQ(ListJson({"{}", "{}"}, "x"),
            "{\"items\":[{},\n{}],\"nextPageToken\":\"x\"}");
}

TEST(OutputTest, ColumnsAreAlignedByWhatIsSeen) {
  Table table({"NAME", "STATE"});
  table.Add({"\x1b[31ma\x1b[0m", "ok"});
  table.Add({"longer", "ok"});
  EXPECT_EQ(table.Render(),
            "NAME    STATE\n\x1b[31ma\x1b[0m       ok\nlonger  ok\n");
  EXPECT_EQ(Table({"A"}).Render(), "(none)");
}

TEST(OutputTest, ExitCodesAreThoseDocumented) {
  EXPECT_EQ(ExitCode(absl::OkStatus()), 0);
  EXPECT_EQ(ExitCode(absl::UnimplementedError("")), 1);
  EXPECT_EQ(ExitCode(UsageError("")), 2);
  EXPECT_EQ(ExitCode(absl::NotFoundError("")), 3);
  EXPECT_EQ(ExitCode(absl::UnauthenticatedError("")), 4);
  EXPECT_EQ(ExitCode(absl::PermissionDeniedError("")), 4);
  EXPECT_EQ(ExitCode(absl::AbortedError("")), 5);
  EXPECT_EQ(ExitCode(absl::AlreadyExistsError("")), 5);
  EXPECT_EQ(ExitCode(absl::FailedPreconditionError("")), 5);
  EXPECT_EQ(ExitCode(absl::DataLossError("")), 7);
  EXPECT_EQ(ExitCode(absl::UnavailableError("")), 8);
  EXPECT_EQ(ExitCode(absl::DeadlineExceededError("")), 8);
  EXPECT_EQ(ExitCode(absl::CancelledError("")), 130);
}

}  // namespace
}  // namespace cairn::cli
