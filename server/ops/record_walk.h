#ifndef CAIRN_SERVER_OPS_RECORD_WALK_H_
#define CAIRN_SERVER_OPS_RECORD_WALK_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/base/digest.h"
#include "server/flow/hub_store.h"
#include "storage/blob_store.h"

namespace cairn {

// Calls `visit` with every record of a table, in bounded pages.
template <class Record>
absl::Status ForEachRecord(
    const HubReader& reader,
    const std::function<absl::Status(const Record&)>& visit) {
  PageRequest request{.size = 1000, .token = ""};
  do {
    CAIRN_ASSIGN_OR_RETURN(auto page, reader.List<Record>("", request));
    for (const Record& record : page.records) {
      CAIRN_RETURN_IF_ERROR(visit(record));
    }
    request.token = page.next_token;
  } while (!request.token.empty());
  return absl::OkStatus();
}

// A blob that a record needs.
struct NamedBlob {
  std::string record;       // the record's name
  std::string sha256;       // as the record has it
  int64_t size_bytes = -1;  // -1: the record does not say
};

// Calls `visit` with every blob that the records need: files and manifests of
// releases, deltas between them, files of suites, of updates whose bytes were
// not dropped, results of jobs, and candidates of batches and replays that are
// under way, tensors included. A candidate's manifest that cannot be read is
// visited itself, its tensors are not.
absl::Status ForEachNamedBlob(
    const HubReader& reader, const BlobStore& blobs,
    const std::function<void(const NamedBlob&)>& visit);

}  // namespace cairn

#endif  // CAIRN_SERVER_OPS_RECORD_WALK_H_
