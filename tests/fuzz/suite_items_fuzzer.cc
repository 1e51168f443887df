// Any bytes as a suite that a worker opens: two bytes for the length of
// suite.yaml, suite.yaml, the items as each kind. Refused, or items that hold
// together.
#include <cstdint>
#include <string>

#include "core/base/log.h"
#include "merge/eval/items.h"
#include "merge/eval/suite.h"
#include "tests/fuzz/fuzz_input.h"

namespace {

template <typename Items>
void Check(const absl::StatusOr<Items>& items) {
  if (!items.ok()) {
    CAIRN_CHECK(!items.status().message().empty());
    return;
  }
  CAIRN_CHECK(!items->empty());
  for (const auto& item : *items) CAIRN_CHECK(!item.id.empty());
}

void TryTexts(const cairn::TextRules& rules, const std::string& text) {
  (void)rules.IsOver(text);
  const std::string left = rules.Filter(rules.Cut(text));
  (void)rules.Matches(left, text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  cairn::testing::FuzzInput input(data, size);
  const size_t length = input.Number();
  const auto suite = cairn::SuiteDescription::Parse(input.Bytes(length));
  const std::string text = input.Rest();
  if (suite.ok()) TryTexts(suite->text_rules, text);
  const auto file = cairn::MakeMemorySource(text);
  Check(cairn::ReadPerplexityItems(*file, "x.jsonl"));
  const auto choices = cairn::ReadMultipleChoiceItems(*file, "x.jsonl");
  Check(choices);
  if (choices.ok()) {
    for (const cairn::MultipleChoiceItem& item : *choices) {
      CAIRN_CHECK(item.label >= 0);
    }
  }
  Check(cairn::ReadClassificationItems(*file, "x.jsonl"));
  Check(cairn::ReadRegressionItems(*file, "x.jsonl"));
  Check(cairn::ReadClassPrompts(*file, "x.jsonl"));
  Check(cairn::ReadGenerationItems(*file, "x.jsonl"));
  return 0;
}
