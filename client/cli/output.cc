#include "client/cli/output.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "core/base/status_util.h"

namespace cairn::cli {
namespace {

// Columns a text takes: escape sequences and UTF-8 continuations take none.
size_t Width(absl::string_view text) {
  size_t width = 0;
  bool is_escape = false;
  for (char c : text) {
    if (c == '\x1b') is_escape = true;
    if (!is_escape && (static_cast<unsigned char>(c) & 0xC0) != 0x80) ++width;
    if (is_escape && c == 'm') is_escape = false;
  }
  return width;
}

}  // namespace

std::string ToJson(const google::protobuf::Message& message, JsonStyle style) {
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  options.add_whitespace = style == JsonStyle::kPretty;
  std::string json;
  auto status =
      google::protobuf::util::MessageToJsonString(message, &json, options);
  return status.ok() ? json : "{}";
}

std::string ListJson(const std::vector<std::string>& items,
                     absl::string_view next_page_token) {
  return absl::StrCat("{\"items\":[", absl::StrJoin(items, ",\n"),
                      "],\"nextPageToken\":",
                      nlohmann::json(std::string(next_page_token)).dump(), "}");
}

std::string ErrorJson(const absl::Status& status) {
  nlohmann::ordered_json error;
  error["code"] = absl::StatusCodeToString(status.code());
  error["message"] = std::string(status.message());
  error["reason"] = "";
  error["details"] = nlohmann::ordered_json::object();
  if (auto reason = GetReason(status); reason.has_value()) {
    error["reason"] = reason->code;
    for (const auto& [key, value] : reason->details) {
      error["details"][key] = value;
    }
  }
  return nlohmann::ordered_json{{"error", error}}.dump(
      -1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::string Table::Render() const {
  if (rows_.empty()) return "(none)";
  std::vector<size_t> widths;
  for (const std::string& heading : headings_) {
    widths.push_back(Width(heading));
  }
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], Width(row[i]));
    }
  }
  std::string out;
  auto add = [&](const std::vector<std::string>& row) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      absl::StrAppend(&line, row[i],
                      std::string(widths[i] - Width(row[i]) + 2, ' '));
    }
    absl::StrAppend(&out, absl::StripTrailingAsciiWhitespace(line), "\n");
  };
  add(headings_);
  for (const auto& row : rows_) add(row);
  return out;
}

void PrintResource(const Session& session,
                   const google::protobuf::Message& message,
                   absl::FunctionRef<std::string()> text) {
  session.Print(session.flags().json ? ToJson(message) : text());
}

std::string FormatTime(const google::protobuf::Timestamp& time) {
  if (time.seconds() == 0) return "";
  return absl::FormatTime("%Y-%m-%d %H:%M:%S",
                          absl::FromUnixSeconds(time.seconds()),
                          absl::UTCTimeZone());
}

std::string ShortDigest(absl::string_view digest) {
  return std::string(absl::StripPrefix(digest, "sha256:").substr(0, 12));
}

}  // namespace cairn::cli
