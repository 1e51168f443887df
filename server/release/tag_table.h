#ifndef CAIRN_SERVER_RELEASE_TAG_TABLE_H_
#define CAIRN_SERVER_RELEASE_TAG_TABLE_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cairn/v1/tag.pb.h"
#include "server/flow/caller.h"
#include "server/flow/hub_store.h"

namespace cairn {

inline constexpr char kLatestTag[] = "latest";

// OK for the id of a tag. INVALID_ARGUMENT when it could be taken for another
// kind of reference (a version, hex digits of a digest or commit) or is no id.
absl::Status CheckTagId(absl::string_view id);

// Movable names of releases. A tag moves by compare-and-swap only: a request
// carries the etag that was read, or the release that the tag must name. When
// latest moves, releases that leave its line are marked `rolled_back` and
// those that come back into it are not any more. Checks permissions itself.
// Thread-safe.
class TagTable {
 public:
  // `store` must outlive it.
  explicit TagTable(HubStore& store) : store_(store) {}

  absl::StatusOr<v1::Tag> Get(const Caller& caller,
                              const v1::GetTagRequest& request) const;
  absl::StatusOr<v1::ListTagsResponse> List(
      const Caller& caller, const v1::ListTagsRequest& request) const;
  // ABORTED with ETAG_MISMATCH when the tag is not as it was read or expected;
  // naming the release it has already is success.
  absl::StatusOr<v1::Tag> Set(const Caller& caller,
                              const v1::SetTagRequest& request);
  // FAILED_PRECONDITION for latest.
  absl::StatusOr<v1::DeleteTagResponse> Delete(
      const Caller& caller, const v1::DeleteTagRequest& request);
  // As Set, with a note that is kept in the events.
  absl::StatusOr<v1::Tag> Rollback(const Caller& caller,
                                   const v1::RollbackRequest& request);

 private:
  HubStore& store_;
};

// Marks what leaves and what comes back into the line of latest, which moved
// from one release to another.
absl::Status MarkRolledBack(HubTransaction& transaction, absl::string_view from,
                            absl::string_view to);

}  // namespace cairn

#endif  // CAIRN_SERVER_RELEASE_TAG_TABLE_H_
