#include "merge/eval/report_json.h"

#include <nlohmann/json.hpp>

namespace cairn {
namespace {

using Json = nlohmann::ordered_json;

std::string Dump(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n";
}

Json ReportJson(const AdapterReport& of) {
  const SplitReport& report = of.report;
  Json json;
  if (!of.adapter.empty()) json["adapter"] = of.adapter;
  json["suite"] = report.suite;
  json["kind"] = report.kind;
  json["split"] = report.split;
  json["metric"] = report.metric;
  json["value"] = report.value;
  json["items"] = report.items.size();
  json["tokens"] = report.tokens;
  json["metrics"] = report.metrics;
  return json;
}

Json RowJson(const std::string& adapter, const ItemScore& item) {
  Json json;
  json["id"] = item.id;
  if (!adapter.empty()) json["adapter"] = adapter;
  if (!item.group.empty()) json["group"] = item.group;
  if (item.prediction.has_value()) {
    json["prediction"] = *item.prediction;
  } else {
    json["logprob_sum"] = item.logprob_sum;
  }
  json["tokens"] = item.tokens;
  if (!item.choice_logprobs.empty()) {
    json["choice_logprobs"] = item.choice_logprobs;
  }
  if (item.generated_ids.has_value()) {
    json["generated_ids"] = *item.generated_ids;
  }
  if (item.generated_text.has_value()) {
    json["generated_text"] = *item.generated_text;
    json["filtered_text"] = *item.filtered_text;
  }
  if (item.is_correct.has_value()) json["correct"] = *item.is_correct;
  return json;
}

}  // namespace

std::string ReportsJson(const std::vector<AdapterReport>& reports) {
  if (reports.size() == 1 && reports.front().adapter.empty()) {
    return Dump(ReportJson(reports.front()), 2);
  }
  Json items = Json::array();
  for (const AdapterReport& report : reports) {
    items.push_back(ReportJson(report));
  }
  return Dump({{"items", items}}, 2);
}

std::string RowsJson(const std::vector<AdapterReport>& reports) {
  std::string out;
  for (const AdapterReport& of : reports) {
    for (const ItemScore& item : of.report.items) {
      out += Dump(RowJson(of.adapter, item), -1);
    }
  }
  return out;
}

}  // namespace cairn
