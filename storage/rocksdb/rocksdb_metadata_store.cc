#include "storage/rocksdb/rocksdb_metadata_store.h"

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/utilities/checkpoint.h>
#include <rocksdb/utilities/write_batch_with_index.h>

#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/failpoint.h"
#include "core/base/log.h"
#include "core/base/mutex.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"

namespace cairn {
namespace {

// Holds what is about the store rather than in it, out of reach of Scan().
constexpr char kSystemFamily[] = "cairn.system";
constexpr char kSchemaKey[] = "schema_version";

rocksdb::Slice ToSlice(absl::string_view text) {
  return rocksdb::Slice(text.data(), text.size());
}

absl::Status ToStatus(const rocksdb::Status& status, absl::string_view doing) {
  if (status.ok()) return absl::OkStatus();
  std::string text = absl::StrCat("metadata store: ", std::string(doing), ": ",
                                  status.ToString());
  if (status.IsCorruption()) return absl::DataLossError(text);
  if (status.IsNoSpace()) {
    return ReasonedError(
        absl::StatusCode::kResourceExhausted, "STORAGE_FULL",
        absl::StrCat(text, "; make room on the hub's disk and repeat it"));
  }
  return absl::UnavailableError(text);
}

absl::StatusOr<std::optional<std::string>> ToValue(
    const rocksdb::Status& status, std::string value) {
  if (status.IsNotFound()) return std::optional<std::string>();
  CAIRN_RETURN_IF_ERROR(ToStatus(status, "get"));
  return std::optional<std::string>(std::move(value));
}

absl::StatusOr<std::vector<KeyValue>> Collect(rocksdb::Iterator& it,
                                              absl::string_view begin,
                                              absl::string_view end,
                                              size_t limit) {
  std::vector<KeyValue> out;
  const rocksdb::Slice stop = ToSlice(end);
  for (it.Seek(ToSlice(begin)); it.Valid() && out.size() < limit; it.Next()) {
    if (!end.empty() && it.key().compare(stop) >= 0) break;
    out.push_back({it.key().ToString(), it.value().ToString()});
  }
  CAIRN_RETURN_IF_ERROR(ToStatus(it.status(), "scan"));
  return out;
}

class SnapshotReader : public MetadataReader {
 public:
  explicit SnapshotReader(rocksdb::DB& db)
      : db_(db), snapshot_(db.GetSnapshot()) {
    options_.snapshot = snapshot_;
  }
  ~SnapshotReader() override { db_.ReleaseSnapshot(snapshot_); }

  absl::StatusOr<std::optional<std::string>> Get(
      absl::string_view key) const override {
    std::string value;
    rocksdb::Status status = db_.Get(options_, ToSlice(key), &value);
    return ToValue(status, std::move(value));
  }
  absl::StatusOr<std::vector<KeyValue>> Scan(absl::string_view begin,
                                             absl::string_view end,
                                             size_t limit) const override {
    std::unique_ptr<rocksdb::Iterator> it(db_.NewIterator(options_));
    return Collect(*it, begin, end, limit);
  }

 private:
  rocksdb::DB& db_;
  const rocksdb::Snapshot* const snapshot_;
  rocksdb::ReadOptions options_;
};

// Reads the database through its own pending writes.
class BatchTransaction : public MetadataTransaction {
 public:
  explicit BatchTransaction(rocksdb::DB& db)
      : db_(db),
        batch_(rocksdb::BytewiseComparator(), 0, /*overwrite_key=*/true) {}

  absl::StatusOr<std::optional<std::string>> Get(
      absl::string_view key) const override {
    std::string value;
    rocksdb::Status status = batch_.GetFromBatchAndDB(
        &db_, rocksdb::ReadOptions(), ToSlice(key), &value);
    return ToValue(status, std::move(value));
  }
  absl::StatusOr<std::vector<KeyValue>> Scan(absl::string_view begin,
                                             absl::string_view end,
                                             size_t limit) const override {
    std::unique_ptr<rocksdb::Iterator> it(
        batch_.NewIteratorWithBase(db_.NewIterator(rocksdb::ReadOptions())));
    return Collect(*it, begin, end, limit);
  }
  void Put(absl::string_view key, absl::string_view value) override {
    Keep(batch_.Put(ToSlice(key), ToSlice(value)));
  }
  void Delete(absl::string_view key) override {
    Keep(batch_.Delete(ToSlice(key)));
  }

  // Also sets a key of another family.
  void Put(rocksdb::ColumnFamilyHandle* family, absl::string_view key,
           absl::string_view value) {
    Keep(batch_.Put(family, ToSlice(key), ToSlice(value)));
  }

  rocksdb::Status failure() const { return failure_; }
  rocksdb::WriteBatch* writes() { return batch_.GetWriteBatch(); }

 private:
  void Keep(const rocksdb::Status& status) {
    if (failure_.ok()) failure_ = status;
  }

  rocksdb::DB& db_;
  // Its reads are const, though RocksDB does not say so.
  mutable rocksdb::WriteBatchWithIndex batch_;
  rocksdb::Status failure_;
};

rocksdb::DBOptions MakeDbOptions() {
  rocksdb::DBOptions options;
  options.create_if_missing = true;
  options.create_missing_column_families = true;
  options.paranoid_checks = true;
  // Drops a torn last record, refuses any other damage to the log.
  options.wal_recovery_mode =
      rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  options.max_background_jobs = 2;
  options.max_open_files = 256;
  options.max_total_wal_size = 64 << 20;
  options.keep_log_file_num = 4;
  options.max_log_file_size = 8 << 20;
  return options;
}

rocksdb::ColumnFamilyOptions MakeFamilyOptions() {
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(32 << 20);
  rocksdb::ColumnFamilyOptions options;
  options.write_buffer_size = 16 << 20;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

absl::Status OpenError(const rocksdb::Status& status,
                       const std::string& directory) {
  const std::string text = status.ToString();
  if (status.IsIOError() && absl::StrContains(text, "LOCK")) {
    return absl::FailedPreconditionError(
        absl::StrCat("another process has ", directory,
                     " open: one data directory serves one hub"));
  }
  if (status.IsInvalidArgument()) {
    return absl::FailedPreconditionError(
        absl::StrCat("open ", directory, ": ", text));
  }
  return Annotate(ToStatus(status, "open"), directory);
}

}  // namespace

class RocksMetadataStore::Database {
 public:
  Database(std::unique_ptr<rocksdb::DB> db,
           std::vector<rocksdb::ColumnFamilyHandle*> families)
      : db_(std::move(db)), families_(std::move(families)) {}
  ~Database() {
    for (auto* family : families_) {
      (void)db_->DestroyColumnFamilyHandle(family);
    }
    (void)db_->Close();
  }

  rocksdb::DB& db() { return *db_; }
  rocksdb::ColumnFamilyHandle* system() { return families_[1]; }

  // Writes the schema version to a new store and brings an old one forward.
  absl::Status ApplySchema(const Schema& schema) {
    CAIRN_ASSIGN_OR_RETURN(std::optional<int> version, ReadSchemaVersion());
    if (!version.has_value()) {
      return Advance(schema.version(),
                     [](MetadataTransaction&) { return absl::OkStatus(); });
    }
    if (*version > schema.version()) {
      return absl::FailedPreconditionError(
          absl::StrCat("the store has schema version ", *version,
                       " and this program knows up to ", schema.version(),
                       ": use the newer program that wrote it"));
    }
    for (int next = *version + 1; next <= schema.version(); ++next) {
      const SchemaStep& step = schema.steps[static_cast<size_t>(next) - 2];
      CAIRN_LOG(kInfo, "bringing the store forward to schema version ", next,
                ": ", step.what);
      CAIRN_RETURN_IF_ERROR(Annotate(
          Advance(next, step.apply),
          absl::StrCat("schema version ", next, " (", step.what, ")")));
    }
    return absl::OkStatus();
  }

  absl::Status Write(rocksdb::WriteBatch* writes) {
    rocksdb::WriteOptions options;
    options.sync = true;
    CAIRN_RETURN_IF_ERROR(Failpoint("store.commit"));
    rocksdb::Status status = db_->Write(options, writes);
    // After a failed write the database refuses all until it is resumed; what
    // failed (no space) may be over by now.
    if (!status.ok() && !status.IsCorruption() && db_->Resume().ok()) {
      status = db_->Write(options, writes);
    }
    CAIRN_RETURN_IF_ERROR(ToStatus(status, "commit"));
    return Failpoint("store.committed");
  }

  // Held for the whole of a transaction.
  Mutex& writer() { return writer_; }

 private:
  // Nothing in a new store.
  absl::StatusOr<std::optional<int>> ReadSchemaVersion() {
    std::string text;
    rocksdb::Status found =
        db_->Get(rocksdb::ReadOptions(), system(), kSchemaKey, &text);
    if (found.IsNotFound()) return std::optional<int>();
    CAIRN_RETURN_IF_ERROR(ToStatus(found, "read schema version"));
    int version = 0;
    if (!absl::SimpleAtoi(text, &version) || version < 1) {
      return absl::DataLossError(
          absl::StrCat("schema version \"", text, "\" is not a number"));
    }
    return std::optional<int>(version);
  }

  // Writes what `apply` writes, and the version with it.
  absl::Status Advance(
      int version,
      const std::function<absl::Status(MetadataTransaction&)>& apply) {
    BatchTransaction transaction(*db_);
    CAIRN_RETURN_IF_ERROR(apply(transaction));
    transaction.Put(system(), kSchemaKey, absl::StrCat(version));
    CAIRN_RETURN_IF_ERROR(ToStatus(transaction.failure(), "prepare"));
    return Write(transaction.writes());
  }

  const std::unique_ptr<rocksdb::DB> db_;
  const std::vector<rocksdb::ColumnFamilyHandle*> families_;
  Mutex writer_;
};

RocksMetadataStore::RocksMetadataStore(std::unique_ptr<Database> database)
    : database_(std::move(database)) {}
RocksMetadataStore::~RocksMetadataStore() = default;

absl::StatusOr<std::unique_ptr<RocksMetadataStore>> RocksMetadataStore::Open(
    const std::string& directory, const Schema& schema) {
  std::vector<rocksdb::ColumnFamilyDescriptor> families = {
      {rocksdb::kDefaultColumnFamilyName, MakeFamilyOptions()},
      {kSystemFamily, MakeFamilyOptions()}};
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* raw = nullptr;
  rocksdb::Status status =
      rocksdb::DB::Open(MakeDbOptions(), directory, families, &handles, &raw);
  if (!status.ok()) return OpenError(status, directory);
  auto database = std::make_unique<Database>(std::unique_ptr<rocksdb::DB>(raw),
                                             std::move(handles));
  CAIRN_RETURN_IF_ERROR(Annotate(database->ApplySchema(schema), directory));
  return std::unique_ptr<RocksMetadataStore>(
      new RocksMetadataStore(std::move(database)));
}

std::unique_ptr<MetadataReader> RocksMetadataStore::Snapshot() const {
  return std::make_unique<SnapshotReader>(database_->db());
}

absl::Status RocksMetadataStore::Transact(
    const std::function<absl::Status(MetadataTransaction&)>& fn) {
  MutexLock lock(database_->writer());
  BatchTransaction transaction(database_->db());
  CAIRN_RETURN_IF_ERROR(fn(transaction));
  CAIRN_RETURN_IF_ERROR(ToStatus(transaction.failure(), "prepare"));
  if (transaction.writes()->Count() == 0) return absl::OkStatus();
  return database_->Write(transaction.writes());
}

absl::Status RocksMetadataStore::Backup(const std::string& directory) {
  rocksdb::Checkpoint* raw = nullptr;
  CAIRN_RETURN_IF_ERROR(
      ToStatus(rocksdb::Checkpoint::Create(&database_->db(), &raw), "back up"));
  std::unique_ptr<rocksdb::Checkpoint> checkpoint(raw);
  return ToStatus(checkpoint->CreateCheckpoint(directory), "back up");
}

}  // namespace cairn
