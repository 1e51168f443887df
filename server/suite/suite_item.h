#ifndef CAIRN_SERVER_SUITE_SUITE_ITEM_H_
#define CAIRN_SERVER_SUITE_SUITE_ITEM_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace cairn {

// True for perplexity, multiple_choice, classification, regression and
// generation.
bool IsSuiteKind(absl::string_view kind);
// True for a metric that the kind has.
bool IsMetricOf(absl::string_view kind, absl::string_view metric);

struct SuiteItem {
  std::string id;
  // What it asks, in one spelling: its fields but id and group.
  std::string content;
};

// Checks one line of a split. INVALID_ARGUMENT with MALFORMED_FILE; the message
// begins with `place` ("gate.jsonl:5") and names the field. `kind` is a suite
// kind; of kind generation is said whether the suite compares texts.
absl::StatusOr<SuiteItem> CheckSuiteItem(absl::string_view kind,
                                         bool compares_texts,
                                         absl::string_view line,
                                         absl::string_view place);

}  // namespace cairn

#endif  // CAIRN_SERVER_SUITE_SUITE_ITEM_H_
