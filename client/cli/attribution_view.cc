#include "client/cli/attribution_view.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "client/names.h"

namespace cairn::cli {
namespace {

using Effects = google::protobuf::RepeatedPtrField<v1::Attribution::Effect>;

// "prose +1.20 %, c -0.30 %"
void AppendEffects(absl::string_view label, const Effects& effects,
                   std::string& out) {
  absl::StrAppend(&out, "\n  ", label, ":");
  for (const v1::Attribution::Effect& effect : effects) {
    absl::StrAppendFormat(&out, "%s %s %+.2f %%",
                          &effect == &effects[0] ? "" : ",",
                          ShortName(effect.suite()), 100 * effect.gain());
    if (effect.standard_error() > 0) {
      absl::StrAppendFormat(&out, " (error %.2f)",
                            100 * effect.standard_error());
    }
  }
}

}  // namespace

std::string DescribeAttribution(const v1::Attribution& attribution) {
  std::string out;
  if (!attribution.merge().empty()) {
    AppendEffects("search splits, the merge", attribution.merge(), out);
    AppendEffects("a random change of its size", attribution.placebo(), out);
  }
  for (const v1::Attribution::Member& member : attribution.members()) {
    AppendEffects(absl::StrCat(ShortName(member.contribution()), " adds",
                               member.adds_nothing() ? " nothing that is sure"
                                                     : ""),
                  member.effects(), out);
  }
  if (!attribution.note().empty()) {
    absl::StrAppend(&out, "\n  attribution: ", attribution.note());
  }
  return out;
}

}  // namespace cairn::cli
