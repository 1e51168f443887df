#include "server/ops/retention_stage.h"

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "core/base/status_macros.h"
#include "server/flow/contribution_state.h"
#include "server/ops/record_walk.h"

namespace cairn {
namespace {

using store::v1::ContributionRecord;
using store::v1::RequestRecord;
using store::v1::TokenRecord;

// Records changed in one transaction.
constexpr size_t kChunk = 500;

bool HoldsRefusedBytes(const ContributionRecord& record, absl::Time cutoff) {
  const v1::Contribution& c = record.contribution();
  return !record.bytes_dropped() &&
         (c.state() == v1::Contribution::REJECTED ||
          c.state() == v1::Contribution::WITHDRAWN) &&
         FromTimestamp(c.update_time()) < cutoff;
}

// Names of records that `is_old` accepts.
template <class Record>
absl::StatusOr<std::vector<std::string>> NamesOf(
    const HubReader& reader, const std::function<bool(const Record&)>& is_old) {
  std::vector<std::string> names;
  CAIRN_RETURN_IF_ERROR(
      ForEachRecord<Record>(reader, [&](const Record& record) {
        if (is_old(record)) names.push_back(Table<Record>::Name(record));
        return absl::OkStatus();
      }));
  return names;
}

template <class Record>
absl::Status DeleteAll(HubStore& store, const std::vector<std::string>& names) {
  for (size_t at = 0; at < names.size(); at += kChunk) {
    absl::Status done =
        store.Transact([&](HubTransaction& txn) -> absl::Status {
          for (size_t i = at; i < std::min(at + kChunk, names.size()); ++i) {
            absl::Status deleted = txn.Delete<Record>(names[i]);
            if (!deleted.ok()) return deleted;
          }
          return absl::OkStatus();
        });
    if (!done.ok()) return done;
  }
  return absl::OkStatus();
}

}  // namespace

RetentionStage::RetentionStage(HubStore& store, RetentionOptions options)
    : store_(store), options_(options), next_pass_(store.clock().Monotonic()) {}

absl::StatusOr<int> RetentionStage::RunPass() {
  absl::Duration now = store_.clock().Monotonic();
  if (now < next_pass_) return 0;
  next_pass_ = now + options_.interval;
  CAIRN_RETURN_IF_ERROR(DropRejectedBytes());
  CAIRN_RETURN_IF_ERROR(ForgetOld());
  return 0;
}

absl::Status RetentionStage::DropRejectedBytes() {
  absl::Time cutoff = store_.clock().Now() - options_.rejected;
  CAIRN_ASSIGN_OR_RETURN(
      auto names, NamesOf<ContributionRecord>(
                      store_.Read(), [&](const ContributionRecord& record) {
                        return HoldsRefusedBytes(record, cutoff);
                      }));
  for (const std::string& name : names) {
    absl::Status dropped =
        store_.Transact([&](HubTransaction& txn) -> absl::Status {
          CAIRN_ASSIGN_OR_RETURN(auto record,
                                 txn.Get<ContributionRecord>(name));
          if (!HoldsRefusedBytes(record, cutoff)) return absl::OkStatus();
          record.set_bytes_dropped(true);
          return txn.Put(record);
        });
    CAIRN_RETURN_IF_ERROR(dropped);
  }
  return absl::OkStatus();
}

absl::Status RetentionStage::ForgetOld() {
  absl::Time now = store_.clock().Now();
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(
      auto requests,
      NamesOf<RequestRecord>(snapshot, [&](const RequestRecord& record) {
        return FromTimestamp(record.create_time()) < now - options_.requests;
      }));
  CAIRN_RETURN_IF_ERROR(DeleteAll<RequestRecord>(store_, requests));
  CAIRN_ASSIGN_OR_RETURN(
      auto tokens,
      NamesOf<TokenRecord>(snapshot, [&](const TokenRecord& record) {
        return FromTimestamp(record.expire_time()) <= now;
      }));
  return DeleteAll<TokenRecord>(store_, tokens);
}

}  // namespace cairn
