#ifndef CAIRN_SERVER_FLOW_TABLES_H_
#define CAIRN_SERVER_FLOW_TABLES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "cairn/store/v1/records.pb.h"

namespace cairn {

// An entry of a secondary index: every record whose index `index` has the
// value is found by HubReader::FindBy.
struct IndexEntry {
  absl::string_view index;
  std::string value;
};

// Where records of a type live. A specialisation has
//   kPrefix             what every key of the table starts with,
//   Name(record)        the name it is stored under, and may have
//   Indexes(record)     its index entries,
//   Check(before, after)  whether the change is legal; `before` is null for a
//                         new record,
//   Seal(record)        sets derived fields: the etag.
template <class Record>
struct Table;

// Names of the indexes.
inline constexpr absl::string_view kReleaseByDigest = "release_digest";
inline constexpr absl::string_view kReleaseByCommit = "release_commit";
inline constexpr absl::string_view kContributionByState = "contribution_state";
inline constexpr absl::string_view kContributionByDigest =
    "contribution_digest";
inline constexpr absl::string_view kQueue = "queue";
inline constexpr absl::string_view kOpenBatch = "batch_open";
inline constexpr absl::string_view kJobByState = "job_state";
inline constexpr absl::string_view kSuiteByState = "suite_state";
inline constexpr absl::string_view kOpenReplay = "replay_open";
// By model: deltas that are being made.
inline constexpr absl::string_view kOpenDelta = "delta_open";
inline constexpr absl::string_view kTokenByUser = "token_user";

// Values of indexes that have several parts.
// Under kReleaseByDigest and kReleaseByCommit: "models/M/" + hex digits (no
// "sha256:"); a prefix of it finds by digest or commit prefix.
std::string ReleaseIndexValue(absl::string_view model, absl::string_view hex);
// Under kContributionByDigest.
std::string ContributionDigestValue(absl::string_view model,
                                    absl::string_view digest);
// Under kQueue: FindByPrefix of QueueValue(model) gives the queue in order.
std::string QueueValue(absl::string_view model);

template <>
struct Table<store::v1::ModelRecord> {
  static constexpr absl::string_view kPrefix = "model/";
  static std::string Name(const store::v1::ModelRecord& r);
  static void Seal(store::v1::ModelRecord& r);
};

template <>
struct Table<store::v1::ReleaseRecord> {
  static constexpr absl::string_view kPrefix = "release/";
  static std::string Name(const store::v1::ReleaseRecord& r);
  static std::vector<IndexEntry> Indexes(const store::v1::ReleaseRecord& r);
  static void Seal(store::v1::ReleaseRecord& r);
};

template <>
struct Table<store::v1::TagRecord> {
  static constexpr absl::string_view kPrefix = "tag/";
  static std::string Name(const store::v1::TagRecord& r);
  static void Seal(store::v1::TagRecord& r);
};

// Stored under its name and version: see SuiteVersionName.
template <>
struct Table<store::v1::SuiteRecord> {
  static constexpr absl::string_view kPrefix = "suite/";
  static std::string Name(const store::v1::SuiteRecord& r);
  static std::vector<IndexEntry> Indexes(const store::v1::SuiteRecord& r);
  static absl::Status Check(const store::v1::SuiteRecord* before,
                            const store::v1::SuiteRecord& after);
  static void Seal(store::v1::SuiteRecord& r);
};
// "models/M/suites/S/3".
std::string SuiteVersionName(absl::string_view suite, int32_t version);

template <>
struct Table<store::v1::ContributionRecord> {
  static constexpr absl::string_view kPrefix = "contribution/";
  static std::string Name(const store::v1::ContributionRecord& r);
  static std::vector<IndexEntry> Indexes(
      const store::v1::ContributionRecord& r);
  static absl::Status Check(const store::v1::ContributionRecord* before,
                            const store::v1::ContributionRecord& after);
  static void Seal(store::v1::ContributionRecord& r);
};

template <>
struct Table<store::v1::BatchRecord> {
  static constexpr absl::string_view kPrefix = "batch/";
  static std::string Name(const store::v1::BatchRecord& r);
  static std::vector<IndexEntry> Indexes(const store::v1::BatchRecord& r);
  static absl::Status Check(const store::v1::BatchRecord* before,
                            const store::v1::BatchRecord& after);
  static void Seal(store::v1::BatchRecord& r);
};

template <>
struct Table<store::v1::JobRecord> {
  static constexpr absl::string_view kPrefix = "job/";
  static std::string Name(const store::v1::JobRecord& r);
  static std::vector<IndexEntry> Indexes(const store::v1::JobRecord& r);
  static absl::Status Check(const store::v1::JobRecord* before,
                            const store::v1::JobRecord& after);
};

template <>
struct Table<store::v1::SessionRecord> {
  static constexpr absl::string_view kPrefix = "session/";
  static std::string Name(const store::v1::SessionRecord& r);
};

template <>
struct Table<store::v1::BaseScoresRecord> {
  static constexpr absl::string_view kPrefix = "base_scores/";
  static std::string Name(const store::v1::BaseScoresRecord& r);
};

template <>
struct Table<store::v1::LedgerRecord> {
  static constexpr absl::string_view kPrefix = "ledger/";
  static std::string Name(const store::v1::LedgerRecord& r);
};

// Stored under "models/M/suites/S/EPOCH/ORGANISATION".
template <>
struct Table<store::v1::HoldoutRecord> {
  static constexpr absl::string_view kPrefix = "holdout/";
  static std::string Name(const store::v1::HoldoutRecord& r);
};

// Stored under the name of the contribution.
template <>
struct Table<store::v1::FingerprintRecord> {
  static constexpr absl::string_view kPrefix = "fingerprint/";
  static std::string Name(const store::v1::FingerprintRecord& r);
};

template <>
struct Table<store::v1::ReplayRecord> {
  static constexpr absl::string_view kPrefix = "replay/";
  static std::string Name(const store::v1::ReplayRecord& r);
  static std::vector<IndexEntry> Indexes(const store::v1::ReplayRecord& r);
};

template <>
struct Table<store::v1::DeltaRecord> {
  static constexpr absl::string_view kPrefix = "delta/";
  static std::string Name(const store::v1::DeltaRecord& r);
  static std::vector<IndexEntry> Indexes(const store::v1::DeltaRecord& r);
};

template <>
struct Table<store::v1::UserRecord> {
  static constexpr absl::string_view kPrefix = "user/";
  static std::string Name(const store::v1::UserRecord& r);
  static void Seal(store::v1::UserRecord& r);
};

template <>
struct Table<store::v1::TokenRecord> {
  static constexpr absl::string_view kPrefix = "token/";
  static std::string Name(const store::v1::TokenRecord& r);
  static std::vector<IndexEntry> Indexes(const store::v1::TokenRecord& r);
};

// Stored under "models/M/SEQUENCE".
template <>
struct Table<store::v1::EventRecord> {
  static constexpr absl::string_view kPrefix = "event/";
  static std::string Name(const store::v1::EventRecord& r);
};
std::string EventName(absl::string_view model, int64_t sequence);

// Stored under "users/U/METHOD/ID".
template <>
struct Table<store::v1::RequestRecord> {
  static constexpr absl::string_view kPrefix = "request/";
  static std::string Name(const store::v1::RequestRecord& r);
};

// A hash of a resource's content, the etag field itself left out.
std::string ComputeEtag(const google::protobuf::Message& resource);

}  // namespace cairn

#endif  // CAIRN_SERVER_FLOW_TABLES_H_
