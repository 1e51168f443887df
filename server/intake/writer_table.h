#ifndef CAIRN_SERVER_INTAKE_WRITER_TABLE_H_
#define CAIRN_SERVER_INTAKE_WRITER_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/mutex.h"
#include "storage/blob_store.h"

namespace cairn {

// The blob writers of open uploads. A writer is lent to one user at a time
// and kept afterwards, so that the next stream of the upload goes on with its
// running hash; the longest unused ones are let go, as the store finds them
// again. Thread-safe.
class WriterTable {
 public:
  // A writer while it is lent; given back when this is destroyed. The table
  // outlives it.
  class Loan {
   public:
    Loan(Loan&& other) noexcept;
    Loan& operator=(Loan&&) = delete;
    ~Loan();

    BlobWriter& writer() { return *writer_; }
    // Syncs, and remembers the length as committed.
    absl::StatusOr<int64_t> Sync();
    // Takes the writer out for good, to commit or to drop it.
    std::unique_ptr<BlobWriter> Take();

   private:
    friend class WriterTable;
    Loan(WriterTable& table, std::string id, std::unique_ptr<BlobWriter> writer)
        : table_(&table), id_(std::move(id)), writer_(std::move(writer)) {}

    WriterTable* table_;  // null after a move
    std::string id_;
    std::unique_ptr<BlobWriter> writer_;  // null after Take()
  };

  // `blobs` must outlive the table. At most `kept_max` unused writers stay.
  WriterTable(BlobStore& blobs, size_t kept_max)
      : blobs_(blobs), kept_max_(kept_max) {}

  // Lends the writer of an upload, which begins with the first loan. ABORTED
  // while it is lent to somebody else.
  absl::StatusOr<Loan> Borrow(absl::string_view upload_id);
  // The length that is durable: synced now, or, while the writer is lent, as
  // its user synced it last.
  absl::StatusOr<int64_t> Committed(absl::string_view upload_id);
  // Drops an upload's bytes. ABORTED while it is lent.
  absl::Status Drop(absl::string_view upload_id);

 private:
  struct Entry {
    std::unique_ptr<BlobWriter> writer;  // null while it is lent
    int64_t committed = 0;
    std::list<std::string>::iterator place;  // in unused_, if not lent
  };

  void Return(const std::string& id, std::unique_ptr<BlobWriter> writer);
  void NoteCommitted(const std::string& id, int64_t committed);

  BlobStore& blobs_;
  const size_t kept_max_;
  Mutex mutex_;
  std::map<std::string, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  // Ids of writers that are not lent, the longest unused first.
  std::list<std::string> unused_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cairn

#endif  // CAIRN_SERVER_INTAKE_WRITER_TABLE_H_
