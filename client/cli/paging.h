#ifndef CAIRN_CLIENT_CLI_PAGING_H_
#define CAIRN_CLIENT_CLI_PAGING_H_

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/status_macros.h"
#include "core/rpc/hub_channel.h"
#include "core/rpc/limits.h"

namespace cairn::cli {

// Every item of a list, over all its pages; at most `limit` if positive.
template <typename Stub, typename Request, typename Response>
auto ListAll(HubChannel& hub,
             grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                          Response*),
             Request request, int64_t limit = 0)
    -> absl::StatusOr<std::vector<
        std::decay_t<decltype(std::declval<Response>().items(0))>>> {
  std::vector<std::decay_t<decltype(std::declval<Response>().items(0))>> out;
  do {
    const int64_t wanted =
        limit > 0 ? limit - static_cast<int64_t>(out.size()) : kPageSizeMax;
    request.set_page_size(
        static_cast<int32_t>(std::min<int64_t>(wanted, kPageSizeMax)));
    CAIRN_ASSIGN_OR_RETURN(Response page, hub.Call(method, request));
    for (auto& item : *page.mutable_items()) {
      if (limit > 0 && static_cast<int64_t>(out.size()) == limit) return out;
      out.push_back(std::move(item));
    }
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty() &&
           (limit == 0 || static_cast<int64_t>(out.size()) < limit));
  return out;
}

}  // namespace cairn::cli

#endif  // CAIRN_CLIENT_CLI_PAGING_H_
