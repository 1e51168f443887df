#ifndef CAIRN_STORAGE_TESTING_FAULTY_BLOB_STORE_H_
#define CAIRN_STORAGE_TESTING_FAULTY_BLOB_STORE_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/mutex.h"
#include "storage/blob_store.h"

namespace cairn::testing {

// Where a FaultyBlobStore may fail.
enum class BlobFault { kOpen, kRead, kAppend, kSync, kCommit, kPut };

// A BlobStore that passes everything on to another one, which must outlive
// it, and fails on plan: FailNext(kSync, 3, status) lets two syncs pass and
// fails the third. A failed call does not reach the other store. Thread-safe.
class FaultyBlobStore : public BlobStore {
 public:
  explicit FaultyBlobStore(BlobStore& store)
      : store_(store), plan_(std::make_shared<Plan>()) {}

  // The `nth` (from 1) call of the kind from now on fails with `status`; once.
  void FailNth(BlobFault fault, int nth, absl::Status status);
  // Every call of the kind fails until Heal().
  void FailAlways(BlobFault fault, absl::Status status);
  void Heal();

  absl::StatusOr<BlobStat> Stat(const Digest& digest) const override;
  absl::StatusOr<std::unique_ptr<ByteSource>> Open(
      const Digest& digest) const override;
  absl::StatusOr<std::unique_ptr<BlobWriter>> Begin(
      absl::string_view upload_id) override;
  absl::StatusOr<std::unique_ptr<BlobWriter>> Resume(
      absl::string_view upload_id) override;
  absl::Status Abandon(absl::string_view upload_id) override;
  absl::StatusOr<Digest> Put(absl::string_view bytes) override;
  using BlobStore::PutFrom;
  absl::StatusOr<Digest> PutFrom(const ByteSource& source,
                                 FileHasher* whole) override;
  absl::Status Touch(const Digest& digest) override;
  absl::Status Remove(const Digest& digest) override;
  absl::StatusOr<bool> RemoveIfOlder(const Digest& digest,
                                     absl::Time cutoff) override;
  absl::Status ListFrom(
      const Digest& first,
      const std::function<bool(const BlobStat&)>& visit) const override;
  absl::StatusOr<std::vector<std::string>> ListUploads() const override;

  // What will fail; shared with writers and sources.
  class Plan {
   public:
    void Add(BlobFault fault, int nth, absl::Status status);
    void Clear();
    // Counts a call and says whether it fails.
    absl::Status Check(BlobFault fault);

   private:
    struct Entry {
      BlobFault fault;
      int calls_left;  // 0: always
      absl::Status status;
    };
    Mutex mutex_;
    std::vector<Entry> entries_ ABSL_GUARDED_BY(mutex_);
  };

 private:
  BlobStore& store_;
  const std::shared_ptr<Plan> plan_;
};

}  // namespace cairn::testing

#endif  // CAIRN_STORAGE_TESTING_FAULTY_BLOB_STORE_H_
