#ifndef CAIRN_SERVER_FLOW_HUB_STORE_H_
#define CAIRN_SERVER_FLOW_HUB_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "core/base/status_macros.h"
#include "server/flow/tables.h"
#include "storage/metadata_store.h"

namespace cairn {

// Which page of a list is wanted; as in the list requests.
struct PageRequest {
  int32_t size = 0;   // 0: 50; at most 1,000
  std::string token;  // from the previous page
};

template <class Record>
struct Page {
  std::vector<Record> records;
  std::string next_token;  // empty on the last page
};

// Typed reads of one consistent state. Names are resource names ("models/m",
// "models/m/contributions/c1"), or what Table<Record>::Name says. Records that
// cannot be parsed are DATA_LOSS.
class HubReader {
 public:
  explicit HubReader(const MetadataReader& reader) : reader_(reader) {}
  virtual ~HubReader() = default;

  // NOT_FOUND "models/m does not exist".
  template <class Record>
  absl::StatusOr<Record> Get(absl::string_view name) const {
    CAIRN_ASSIGN_OR_RETURN(auto found, Find<Record>(name));
    if (!found.has_value()) return NotFound(name);
    return *std::move(found);
  }

  // nullopt when there is none.
  template <class Record>
  absl::StatusOr<std::optional<Record>> Find(absl::string_view name) const {
    CAIRN_ASSIGN_OR_RETURN(auto bytes,
                           ReadKey(TableKey(Table<Record>::kPrefix, name)));
    if (!bytes.has_value()) return std::optional<Record>();
    CAIRN_ASSIGN_OR_RETURN(auto record, Decode<Record>(*bytes, name));
    return std::optional<Record>(std::move(record));
  }

  // Records whose name starts with `parent` ("models/m/contributions/", or ""
  // for all), in the order of their names with numbers by value (c2 before
  // c10, v1.9.0 before v1.10.0). `accept` keeps some; a page may then be short
  // and still have a next one. INVALID_ARGUMENT for a bad size or token.
  template <class Record>
  absl::StatusOr<Page<Record>> List(
      absl::string_view parent, const PageRequest& request,
      const std::function<bool(const Record&)>& accept = nullptr) const {
    CAIRN_ASSIGN_OR_RETURN(size_t size, PageSize(request));
    CAIRN_ASSIGN_OR_RETURN(
        PageCursor cursor,
        OpenPage(TableKey(Table<Record>::kPrefix, parent), request.token));
    Page<Record> page;
    while (page.records.size() < size) {
      CAIRN_ASSIGN_OR_RETURN(auto row, cursor.Next(reader_));
      if (!row.has_value()) return page;
      CAIRN_ASSIGN_OR_RETURN(auto record, Decode<Record>(row->value, row->key));
      if (!accept || accept(record)) page.records.push_back(std::move(record));
    }
    CAIRN_ASSIGN_OR_RETURN(page.next_token, cursor.Token(reader_));
    return page;
  }

  // Every record under `parent`, for sets known to be small; at most `limit`.
  template <class Record>
  absl::StatusOr<std::vector<Record>> ListAll(absl::string_view parent,
                                              size_t limit = 10'000) const {
    CAIRN_ASSIGN_OR_RETURN(
        auto rows, ScanPrefix(TableKey(Table<Record>::kPrefix, parent), limit));
    std::vector<Record> records;
    for (const KeyValue& row : rows) {
      CAIRN_ASSIGN_OR_RETURN(auto record, Decode<Record>(row.value, row.key));
      records.push_back(std::move(record));
    }
    return records;
  }

  // Records whose index has exactly `value`, in the order of their names.
  template <class Record>
  absl::StatusOr<std::vector<Record>> FindBy(absl::string_view index,
                                             absl::string_view value,
                                             size_t limit = 1000) const {
    return ReadIndexed<Record>(IndexKey(index, value, ""), limit);
  }
  // Records whose index value starts with `prefix`, in the order of values.
  template <class Record>
  absl::StatusOr<std::vector<Record>> FindByPrefix(absl::string_view index,
                                                   absl::string_view prefix,
                                                   size_t limit = 1000) const {
    return ReadIndexed<Record>(IndexPrefix(index, prefix), limit);
  }

  // The response that this user's request id got before, if any. A request
  // id that came with another request is INVALID_ARGUMENT. An empty id is
  // never found.
  template <class Response>
  absl::StatusOr<std::optional<Response>> Replayed(
      absl::string_view user, absl::string_view method,
      absl::string_view request_id,
      const google::protobuf::Message& request) const {
    CAIRN_ASSIGN_OR_RETURN(auto bytes,
                           ReplayedBytes(user, method, request_id, request));
    if (!bytes.has_value()) return std::optional<Response>();
    CAIRN_ASSIGN_OR_RETURN(auto response, Decode<Response>(*bytes, method));
    return std::optional<Response>(std::move(response));
  }

  // The newest version of a suite; NOT_FOUND when there is none.
  absl::StatusOr<store::v1::SuiteRecord> GetSuite(absl::string_view name) const;
  // The ACTIVE version of every suite of a model, by name.
  absl::StatusOr<std::vector<store::v1::SuiteRecord>> ActiveSuites(
      absl::string_view model) const;
  // The newest version of every suite of a model, whatever its state.
  absl::StatusOr<std::vector<store::v1::SuiteRecord>> NewestSuites(
      absl::string_view model) const;
  // The release that a model's tag latest names.
  absl::StatusOr<store::v1::ReleaseRecord> Head(absl::string_view model) const;

  const MetadataReader& raw() const { return reader_; }

 protected:
  // Walks the rows of a page; reads ahead in bounded steps.
  class PageCursor {
   public:
    // `rest`: what follows `prefix` in the key of the first row.
    PageCursor(std::string prefix, absl::string_view rest);
    absl::StatusOr<std::optional<KeyValue>> Next(const MetadataReader& reader);
    // Token of what is left; empty when nothing is.
    absl::StatusOr<std::string> Token(const MetadataReader& reader) const;

   private:
    std::string prefix_;
    std::string end_;
    std::string next_;  // the key to read on from
    std::vector<KeyValue> ahead_;
    size_t at_ = 0;
  };

  template <class Record>
  static absl::StatusOr<Record> Decode(const std::string& bytes,
                                       absl::string_view name) {
    Record record;
    if (!record.ParseFromString(bytes)) return BrokenRecord(name);
    return record;
  }

  template <class Record>
  absl::StatusOr<std::vector<Record>> ReadIndexed(const std::string& prefix,
                                                  size_t limit) const {
    CAIRN_ASSIGN_OR_RETURN(auto rows, ScanPrefix(prefix, limit));
    std::vector<Record> records;
    for (const KeyValue& row : rows) {
      CAIRN_ASSIGN_OR_RETURN(auto bytes, ReadKey(row.value));
      if (!bytes.has_value()) return BrokenRecord(row.value);
      CAIRN_ASSIGN_OR_RETURN(auto record, Decode<Record>(*bytes, row.value));
      records.push_back(std::move(record));
    }
    return records;
  }

  static std::string TableKey(absl::string_view prefix, absl::string_view name);
  static std::string IndexPrefix(absl::string_view index,
                                 absl::string_view value_prefix);
  static std::string IndexKey(absl::string_view index, absl::string_view value,
                              absl::string_view key);
  static absl::Status NotFound(absl::string_view name);
  static absl::Status BrokenRecord(absl::string_view name);
  static absl::StatusOr<size_t> PageSize(const PageRequest& request);
  static absl::StatusOr<PageCursor> OpenPage(const std::string& prefix,
                                             const std::string& token);
  absl::StatusOr<std::optional<std::string>> ReadKey(
      const std::string& key) const;
  absl::StatusOr<std::vector<KeyValue>> ScanPrefix(const std::string& prefix,
                                                   size_t limit) const;
  absl::StatusOr<std::optional<std::string>> ReplayedBytes(
      absl::string_view user, absl::string_view method,
      absl::string_view request_id,
      const google::protobuf::Message& request) const;

 private:
  const MetadataReader& reader_;
};

// A typed transaction: reads see its own writes.
class HubTransaction : public HubReader {
 public:
  HubTransaction(MetadataTransaction& transaction, absl::Time now)
      : HubReader(transaction), transaction_(transaction), now_(now) {}

  // The hub's time of this transaction.
  absl::Time now() const { return now_; }

  // Writes a record under its own name, with its indexes and its etag (which
  // is also set in `record`). FAILED_PRECONDITION for a state move that
  // contribution_state.h does not hold.
  template <class Record>
  absl::Status Put(Record& record) {
    if constexpr (requires { Table<Record>::Seal(record); }) {
      Table<Record>::Seal(record);
    }
    std::string name = Table<Record>::Name(record);
    CAIRN_ASSIGN_OR_RETURN(auto before, this->template Find<Record>(name));
    if constexpr (requires { Table<Record>::Check(&record, record); }) {
      CAIRN_RETURN_IF_ERROR(Table<Record>::Check(
          before.has_value() ? &*before : nullptr, record));
    }
    std::string key = TableKey(Table<Record>::kPrefix, name);
    if constexpr (requires { Table<Record>::Indexes(record); }) {
      if (before.has_value())
        DeleteIndexes(Table<Record>::Indexes(*before), key);
      PutIndexes(Table<Record>::Indexes(record), key);
    }
    transaction_.Put(key, record.SerializeAsString());
    return absl::OkStatus();
  }
  template <class Record>
  absl::Status Put(Record&& record) {
    return Put(static_cast<Record&>(record));
  }

  // Removes a record and its indexes; removing what is not there is success.
  template <class Record>
  absl::Status Delete(absl::string_view name) {
    CAIRN_ASSIGN_OR_RETURN(auto before, this->template Find<Record>(name));
    if (!before.has_value()) return absl::OkStatus();
    std::string key = TableKey(Table<Record>::kPrefix, name);
    if constexpr (requires { Table<Record>::Indexes(*before); }) {
      DeleteIndexes(Table<Record>::Indexes(*before), key);
    }
    transaction_.Delete(key);
    return absl::OkStatus();
  }

  // 1, 2, 3, ... of a named counter, e.g. "models/m/contributions".
  absl::StatusOr<int64_t> NextNumber(absl::string_view counter);

  // Appends to a model's events; sequence and time are filled in.
  absl::Status AppendEvent(absl::string_view model, v1::Event event);

  // Keeps the answer for Replayed(); nothing for an empty request id.
  absl::Status Remember(absl::string_view user, absl::string_view method,
                        absl::string_view request_id,
                        const google::protobuf::Message& request,
                        const google::protobuf::Message& response);

  MetadataTransaction& raw_transaction() { return transaction_; }

 private:
  void PutIndexes(const std::vector<IndexEntry>& entries,
                  const std::string& key);
  void DeleteIndexes(const std::vector<IndexEntry>& entries,
                     const std::string& key);

  MetadataTransaction& transaction_;
  const absl::Time now_;
};

// A HubReader that owns the state it reads.
class HubSnapshot : public HubReader {
 public:
  explicit HubSnapshot(std::unique_ptr<MetadataReader> reader)
      : HubReader(*reader), owned_(std::move(reader)) {}

 private:
  std::unique_ptr<MetadataReader> owned_;
};

// The hub's records over a metadata store. Thread-safe.
class HubStore {
 public:
  // Both must outlive the store.
  HubStore(MetadataStore& store, Clock& clock) : store_(store), clock_(clock) {}

  HubSnapshot Read() const { return HubSnapshot(store_.Snapshot()); }

  // Runs `fn` and commits durably what it wrote; see MetadataStore::Transact.
  // A commit wakes those who wait in WaitForChange.
  absl::Status Transact(const std::function<absl::Status(HubTransaction&)>& fn);

  // Grows with every commit.
  int64_t changes() const;
  // Waits until changes() differs from `seen` or the time is up; returns
  // changes().
  int64_t WaitForChange(int64_t seen, absl::Duration timeout) const;
  // Wakes all waiters, e.g. to end them.
  void WakeAll();

  Clock& clock() const { return clock_; }

 private:
  MetadataStore& store_;
  Clock& clock_;
  mutable Mutex mutex_;
  mutable CondVar changed_;
  int64_t changes_ ABSL_GUARDED_BY(mutex_) = 0;
};

// OK when `given` is empty or equal to `etag`; else ABORTED with
// ETAG_MISMATCH, naming the resource.
absl::Status CheckEtag(absl::string_view name, absl::string_view etag,
                       absl::string_view given);

}  // namespace cairn

#endif  // CAIRN_SERVER_FLOW_HUB_STORE_H_
