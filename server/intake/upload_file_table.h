#ifndef CAIRN_SERVER_INTAKE_UPLOAD_FILE_TABLE_H_
#define CAIRN_SERVER_INTAKE_UPLOAD_FILE_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/mutex.h"
#include "server/intake/upload_file.h"
#include "storage/blob_store.h"

namespace cairn {

// The files of open uploads. One stays open for a while after its last use,
// so that the next stream goes on with its running hash; the longest unused
// ones are let go, as the store finds them again. Thread-safe.
class UploadFileTable {
 public:
  // A file while it is used. The table outlives it.
  class Use {
   public:
    Use(Use&& other) noexcept = default;
    Use& operator=(Use&&) = delete;
    ~Use();
    UploadFile* operator->() const { return file_.get(); }

   private:
    friend class UploadFileTable;
    Use(UploadFileTable& table, std::string id,
        std::shared_ptr<UploadFile> file)
        : table_(table), id_(std::move(id)), file_(std::move(file)) {}

    UploadFileTable& table_;
    std::string id_;
    std::shared_ptr<UploadFile> file_;  // null after a move
  };

  // A writer taken out for good, to commit or to drop. Nobody can open the
  // upload while this lives. The table outlives it.
  class Taken {
   public:
    Taken(Taken&& other) noexcept
        : writer(std::move(other.writer)),
          table_(std::exchange(other.table_, nullptr)),
          id_(std::move(other.id_)) {}
    Taken& operator=(Taken&&) = delete;
    ~Taken();

    std::unique_ptr<BlobWriter> writer;

   private:
    friend class UploadFileTable;
    Taken(UploadFileTable& table, std::string id) : table_(&table), id_(id) {}

    UploadFileTable* table_;  // null after a move
    std::string id_;
  };

  // `blobs` must outlive the table. At most `kept_max` unused files stay open.
  UploadFileTable(BlobStore& blobs, UploadFileOptions options, size_t kept_max)
      : blobs_(blobs), options_(options), kept_max_(kept_max) {}

  // Opens the file of an upload, which begins with the first use. ABORTED
  // while it is being finished or dropped, or its disk failed.
  absl::StatusOr<Use> Open(absl::string_view upload_id);
  // Ends all other use and takes the writer out. ABORTED as Open().
  absl::StatusOr<Taken> Take(absl::string_view upload_id);
  // The length that is durable: synced now, or, while streams use the file,
  // as it was synced last.
  absl::StatusOr<int64_t> Committed(absl::string_view upload_id);
  // The length that was received, durable or not.
  absl::StatusOr<int64_t> Received(absl::string_view upload_id);
  // How many use the file now.
  int Users(const std::string& upload_id) const;
  // Drops an upload's bytes.
  absl::Status Drop(absl::string_view upload_id);

 private:
  struct Entry {
    std::shared_ptr<UploadFile> file;  // null while it is opened or taken
    bool is_taken = false;
    int users = 0;
    std::list<std::string>::iterator place;  // in unused_, if nobody uses it
  };

  absl::StatusOr<std::shared_ptr<UploadFile>> OpenFile(const std::string& id);
  void Release(const std::string& id, const std::shared_ptr<UploadFile>& file);
  void Erase(const std::string& id);
  // The oldest unused file past kept_max, to be closed and erased.
  std::shared_ptr<UploadFile> NextToLetGo(std::string& id);

  BlobStore& blobs_;
  const UploadFileOptions options_;
  const size_t kept_max_;
  mutable Mutex mutex_;
  CondVar changed_;
  std::map<std::string, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  // Ids of files that nobody uses, the longest unused first.
  std::list<std::string> unused_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cairn

#endif  // CAIRN_SERVER_INTAKE_UPLOAD_FILE_TABLE_H_
