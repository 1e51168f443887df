#include "server/intake/writer_table.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace cairn {

WriterTable::Loan::Loan(Loan&& other) noexcept
    : table_(std::exchange(other.table_, nullptr)),
      id_(std::move(other.id_)),
      writer_(std::move(other.writer_)) {}

WriterTable::Loan::~Loan() {
  if (table_ != nullptr) table_->Return(id_, std::move(writer_));
}

absl::StatusOr<int64_t> WriterTable::Loan::Sync() {
  CAIRN_ASSIGN_OR_RETURN(int64_t committed, writer_->Sync());
  table_->NoteCommitted(id_, committed);
  return committed;
}

std::unique_ptr<BlobWriter> WriterTable::Loan::Take() {
  return std::move(writer_);
}

absl::StatusOr<WriterTable::Loan> WriterTable::Borrow(
    absl::string_view upload_id) {
  std::string id(upload_id);
  {
    MutexLock lock(mutex_);
    auto [it, is_new] = entries_.try_emplace(id);
    if (!is_new) {
      Entry& entry = it->second;
      if (entry.writer == nullptr) {
        return absl::AbortedError(absl::StrCat(
            "uploads/", id, " is being written by another call: try again"));
      }
      unused_.erase(entry.place);
      return Loan(*this, std::move(id), std::move(entry.writer));
    }
  }
  // The entry is there and has no writer: nobody else gets this far.
  auto writer = blobs_.Resume(id);
  if (absl::IsNotFound(writer.status())) writer = blobs_.Begin(id);
  if (!writer.ok()) {
    Return(id, nullptr);
    return writer.status();
  }
  Loan loan(*this, std::move(id), *std::move(writer));
  NoteCommitted(loan.id_, loan.writer().size());
  return loan;
}

absl::StatusOr<int64_t> WriterTable::Committed(absl::string_view upload_id) {
  absl::StatusOr<Loan> loan = Borrow(upload_id);
  if (loan.ok()) return loan->Sync();
  if (!absl::IsAborted(loan.status())) return loan.status();
  MutexLock lock(mutex_);
  auto it = entries_.find(std::string(upload_id));
  if (it == entries_.end()) return loan.status();  // given back meanwhile
  return it->second.committed;
}

absl::Status WriterTable::Drop(absl::string_view upload_id) {
  CAIRN_ASSIGN_OR_RETURN(Loan loan, Borrow(upload_id));
  loan.Take().reset();
  return blobs_.Abandon(upload_id);
}

void WriterTable::Return(const std::string& id,
                         std::unique_ptr<BlobWriter> writer) {
  // Closed outside the lock.
  std::vector<std::unique_ptr<BlobWriter>> let_go;
  MutexLock lock(mutex_);
  auto it = entries_.find(id);
  if (writer == nullptr) {
    entries_.erase(it);
    return;
  }
  it->second.writer = std::move(writer);
  it->second.place = unused_.insert(unused_.end(), id);
  while (unused_.size() > kept_max_) {
    auto oldest = entries_.find(unused_.front());
    let_go.push_back(std::move(oldest->second.writer));
    entries_.erase(oldest);
    unused_.pop_front();
  }
}

void WriterTable::NoteCommitted(const std::string& id, int64_t committed) {
  MutexLock lock(mutex_);
  entries_[id].committed = committed;
}

}  // namespace cairn
