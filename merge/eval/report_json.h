#ifndef CAIRN_MERGE_EVAL_REPORT_JSON_H_
#define CAIRN_MERGE_EVAL_REPORT_JSON_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "merge/eval/evaluate.h"

namespace cairn {

// A report and, where several adapters are scored in turn, the one that it is
// about, as it was given on the command line.
struct AdapterReport {
  std::string adapter;
  SplitReport report;
};

// The document that `cairn evaluate --json` writes: one report, or
// {"items": [...]} for several adapters. Numbers have all their digits.
std::string ReportsJson(const std::vector<AdapterReport>& reports);

// One line an item, in order: what `--per-item` writes.
std::string RowsJson(const std::vector<AdapterReport>& reports);

}  // namespace cairn

#endif  // CAIRN_MERGE_EVAL_REPORT_JSON_H_
