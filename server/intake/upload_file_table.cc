#include "server/intake/upload_file_table.h"

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

absl::Status Busy(const std::string& id) {
  return absl::AbortedError(
      absl::StrCat("uploads/", id, " is being finished or dropped: try again"));
}

}  // namespace

UploadFileTable::Use::~Use() {
  if (file_ != nullptr) table_.Release(id_, file_);
}

UploadFileTable::Taken::~Taken() {
  writer.reset();
  if (table_ != nullptr) table_->Erase(id_);
}

absl::StatusOr<UploadFileTable::Use> UploadFileTable::Open(
    absl::string_view upload_id) {
  std::string id(upload_id);
  {
    MutexLock lock(mutex_);
    while (true) {
      auto [it, is_new] = entries_.try_emplace(id);
      if (is_new) break;
      Entry& entry = it->second;
      if (entry.is_taken) return Busy(id);
      if (entry.file != nullptr) {
        if (entry.users++ == 0) unused_.erase(entry.place);
        return Use(*this, std::move(id), entry.file);
      }
      changed_.Wait(mutex_);  // another call is opening it
    }
  }
  // The entry is there and has no file: nobody else gets this far.
  auto file = OpenFile(id);
  if (!file.ok()) {
    Erase(id);
    return file.status();
  }
  MutexLock lock(mutex_);
  Entry& entry = entries_[id];
  entry.file = *file;
  entry.users = 1;
  changed_.NotifyAll();
  return Use(*this, std::move(id), *std::move(file));
}

absl::StatusOr<std::shared_ptr<UploadFile>> UploadFileTable::OpenFile(
    const std::string& id) {
  auto writer = blobs_.Resume(id);
  if (absl::IsNotFound(writer.status())) writer = blobs_.Begin(id);
  CAIRN_RETURN_IF_ERROR(writer.status());
  return std::make_shared<UploadFile>(absl::StrCat("uploads/", id),
                                      *std::move(writer), options_);
}

absl::StatusOr<UploadFileTable::Taken> UploadFileTable::Take(
    absl::string_view upload_id) {
  CAIRN_ASSIGN_OR_RETURN(Use use, Open(upload_id));
  {
    MutexLock lock(mutex_);
    Entry& entry = entries_[use.id_];
    if (entry.is_taken) return Busy(use.id_);
    entry.is_taken = true;
    entry.file = nullptr;
  }
  Taken taken(*this, use.id_);
  taken.writer = use->Close();
  return taken;
}

absl::StatusOr<int64_t> UploadFileTable::Committed(
    absl::string_view upload_id) {
  CAIRN_ASSIGN_OR_RETURN(Use use, Open(upload_id));
  return Users(use.id_) > 1 ? use->committed() : use->Sync();
}

absl::StatusOr<int64_t> UploadFileTable::Received(absl::string_view upload_id) {
  CAIRN_ASSIGN_OR_RETURN(Use use, Open(upload_id));
  return use->size();
}

absl::Status UploadFileTable::Drop(absl::string_view upload_id) {
  CAIRN_ASSIGN_OR_RETURN(Taken taken, Take(upload_id));
  taken.writer.reset();
  return blobs_.Abandon(upload_id);
}

int UploadFileTable::Users(const std::string& upload_id) const {
  MutexLock lock(mutex_);
  auto it = entries_.find(upload_id);
  return it == entries_.end() ? 0 : it->second.users;
}

void UploadFileTable::Release(const std::string& id,
                              const std::shared_ptr<UploadFile>& file) {
  {
    MutexLock lock(mutex_);
    auto it = entries_.find(id);
    // Taken out meanwhile, and perhaps begun anew.
    if (it == entries_.end() || it->second.file != file) return;
    if (--it->second.users > 0) return;
    // A broken file goes first: the store knows what is left of it.
    it->second.place =
        unused_.insert(file->is_broken() ? unused_.begin() : unused_.end(), id);
  }
  std::string let_go;
  while (std::shared_ptr<UploadFile> oldest = NextToLetGo(let_go)) {
    oldest->Close();
    Erase(let_go);
  }
}

std::shared_ptr<UploadFile> UploadFileTable::NextToLetGo(std::string& id) {
  MutexLock lock(mutex_);
  if (unused_.empty()) return nullptr;
  Entry& oldest = entries_[unused_.front()];
  if (unused_.size() <= kept_max_ && !oldest.file->is_broken()) return nullptr;
  id = unused_.front();
  unused_.pop_front();
  // As if it were being opened: whoever wants it waits until it is closed.
  return std::move(oldest.file);
}

void UploadFileTable::Erase(const std::string& id) {
  MutexLock lock(mutex_);
  entries_.erase(id);
  changed_.NotifyAll();
}

}  // namespace cairn
