#ifndef CAIRN_CLIENT_CLI_OUTPUT_H_
#define CAIRN_CLIENT_CLI_OUTPUT_H_

#include <google/protobuf/message.h>
#include <google/protobuf/timestamp.pb.h>

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "client/cli/session.h"

namespace cairn::cli {

enum class JsonStyle { kPretty, kLine };

// proto3 JSON with defaults printed and enum values by name.
std::string ToJson(const google::protobuf::Message& message,
                   JsonStyle style = JsonStyle::kPretty);

// {"items":[...],"nextPageToken":"..."} of rendered items.
std::string ListJson(const std::vector<std::string>& items,
                     absl::string_view next_page_token = "");

// {"error":{"code","message","reason","details"}}.
std::string ErrorJson(const absl::Status& status);

// Rows under headings, columns aligned; a note instead when there are none.
class Table {
 public:
  explicit Table(std::vector<std::string> headings)
      : headings_(std::move(headings)) {}
  void Add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  std::string Render() const;

 private:
  std::vector<std::string> headings_;
  std::vector<std::vector<std::string>> rows_;
};

// Prints a resource: as JSON with --json, else what `text` says.
void PrintResource(const Session& session,
                   const google::protobuf::Message& message,
                   absl::FunctionRef<std::string()> text);

// Prints a list: as JSON with --json, else what `text` says.
template <typename Items>
void PrintList(const Session& session, const Items& items,
               absl::FunctionRef<std::string()> text) {
  if (!session.flags().json) {
    session.Print(text());
    return;
  }
  std::vector<std::string> rendered;
  for (const auto& item : items) {
    rendered.push_back(ToJson(item, JsonStyle::kLine));
  }
  session.Print(ListJson(rendered));
}

// "2026-11-22 19:05:53" in UTC; empty when not set.
std::string FormatTime(const google::protobuf::Timestamp& time);

// "sha256:0123456789ab" for people.
std::string ShortDigest(absl::string_view digest);

}  // namespace cairn::cli

#endif  // CAIRN_CLIENT_CLI_OUTPUT_H_
