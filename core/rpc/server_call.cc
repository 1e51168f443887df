#include "core/rpc/server_call.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_util.h"

namespace cairn {

std::string AuthorizationOf(const grpc::CallbackServerContext& context) {
  std::string found;
  const auto range = context.client_metadata().equal_range("authorization");
  for (auto it = range.first; it != range.second; ++it) {
    const absl::string_view value(it->second.data(), it->second.size());
    absl::StrAppend(&found, found.empty() ? "" : ",", value);
  }
  return found;
}

std::string CallerKey(const grpc::CallbackServerContext& context) {
  std::string authorization = AuthorizationOf(context);
  if (!authorization.empty()) return authorization;
  // "ipv4:10.0.0.1:4711" without the port, which every connection has anew.
  const std::string peer = context.peer();
  return peer.substr(0, peer.rfind(':'));
}

absl::Status Overloaded() {
  return WithRetryDelay(
      absl::ResourceExhaustedError("the hub has too much to do: try again"),
      absl::Seconds(1));
}

void RunOn(ThreadPool& pool, absl::AnyInvocable<void()> task,
           absl::AnyInvocable<void(absl::Status)> refused) {
  if (!pool.Submit(std::move(task))) refused(Overloaded());
}

}  // namespace cairn
