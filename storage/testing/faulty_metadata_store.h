#ifndef CAIRN_STORAGE_TESTING_FAULTY_METADATA_STORE_H_
#define CAIRN_STORAGE_TESTING_FAULTY_METADATA_STORE_H_

#include <functional>
#include <memory>
#include <utility>

#include "core/base/mutex.h"
#include "storage/metadata_store.h"

namespace cairn::testing {

// A MetadataStore that passes everything on to another one, which must
// outlive it, and fails transactions on plan. Thread-safe.
class FaultyMetadataStore : public MetadataStore {
 public:
  // When a planned failure strikes.
  enum class When {
    // Nothing is written.
    kBeforeCommit,
    // Everything is written, and the caller is told otherwise, as when a
    // process dies before it could answer.
    kAfterCommit,
  };

  explicit FaultyMetadataStore(MetadataStore& store) : store_(store) {}

  // The `nth` (from 1) transaction from now on fails with `status`; once.
  void FailNth(int nth, When when, absl::Status status) {
    MutexLock lock(mutex_);
    calls_left_ = nth;
    when_ = when;
    status_ = std::move(status);
  }

  std::unique_ptr<MetadataReader> Snapshot() const override {
    return store_.Snapshot();
  }

  absl::Status Transact(
      const std::function<absl::Status(MetadataTransaction&)>& fn) override {
    absl::Status failure;
    When when = When::kBeforeCommit;
    {
      MutexLock lock(mutex_);
      if (calls_left_ > 0 && --calls_left_ == 0) {
        failure = status_;
        when = when_;
      }
    }
    if (!failure.ok() && when == When::kBeforeCommit) return failure;
    absl::Status status = store_.Transact(fn);
    return status.ok() ? failure : status;
  }

 private:
  MetadataStore& store_;
  Mutex mutex_;
  int calls_left_ ABSL_GUARDED_BY(mutex_) = 0;
  When when_ ABSL_GUARDED_BY(mutex_) = When::kBeforeCommit;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cairn::testing

#endif  // CAIRN_STORAGE_TESTING_FAULTY_METADATA_STORE_H_
