#ifndef CAIRN_TESTS_MALFORMED_REFUSAL_TABLE_H_
#define CAIRN_TESTS_MALFORMED_REFUSAL_TABLE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/base/status_util.h"

namespace cairn {

// Something broken, and how it must be refused: with this code and reason, in
// a message that names what is wrong.
struct Refusal {
  const char* name;
  absl::Status status;
  const char* reason;
  // What the message must say, all of it.
  std::vector<const char*> says;
  absl::StatusCode code = absl::StatusCode::kInvalidArgument;
};

inline void ExpectRefusals(const std::vector<Refusal>& cases) {
  for (const Refusal& c : cases) {
    EXPECT_EQ(c.status.code(), c.code) << c.name << ": " << c.status;
    auto reason = GetReason(c.status);
    EXPECT_EQ(reason.has_value() ? reason->code : "none", c.reason)
        << c.name << ": " << c.status;
    for (const char* text : c.says) {
      EXPECT_THAT(std::string(c.status.message()), ::testing::HasSubstr(text))
          << c.name;
    }
  }
}

}  // namespace cairn

#endif  // CAIRN_TESTS_MALFORMED_REFUSAL_TABLE_H_
