#ifndef CAIRN_SERVER_FLOW_PUBLISHER_H_
#define CAIRN_SERVER_FLOW_PUBLISHER_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cairn/store/v1/records.pb.h"
#include "server/flow/hub_store.h"

namespace cairn {

// What a batch hands over to become a release.
struct Publication {
  std::string model;
  // The release that latest must still name: the parent.
  std::string head;
  // MERGED: a minor version; REVERTED: a patch version.
  store::v1::ReleaseRecord::Origin origin =
      store::v1::ReleaseRecord::ORIGIN_UNSPECIFIED;
  // The weights: the files of candidate.release with the tensors of its
  // manifest. candidate.digest is what was evaluated. Without merge_record,
  // the weights are those of candidate.release itself.
  store::v1::CandidateRecord candidate;
  // Contributions of the whole line, oldest first.
  std::vector<std::string> contributions;
  // Of these, what the release holds beyond its parent.
  std::vector<std::string> added;
  // Merges of the whole line. A last step without a release gets this one.
  std::vector<store::v1::LineStep> line;
  // Audit reports against the parent.
  std::vector<v1::Report> reports;
  // What the merge owes to its parts, as everybody may see it; empty if
  // nothing was measured.
  v1::Attribution attribution = {};
  // models/M/batches/B; for the event.
  std::string batch;
};

// Turns a candidate into a signed release. Implemented by server/release.
class Publisher {
 public:
  virtual ~Publisher() = default;

  // The slow part, outside any transaction: assembles the files, hashes them,
  // builds and signs the manifest, stores the blobs that are new. Harmless to
  // repeat. DATA_LOSS when the digest of what was assembled is not
  // `candidate.digest`.
  virtual absl::StatusOr<store::v1::ReleaseRecord> Build(
      const Publication& publication) = 0;

  // Writes the release and moves latest to it, within the caller's
  // transaction. ABORTED when latest no longer names `publication.head` or
  // the version was taken: nothing is written then.
  virtual absl::Status Commit(HubTransaction& transaction,
                              const Publication& publication,
                              store::v1::ReleaseRecord release) = 0;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_FLOW_PUBLISHER_H_
