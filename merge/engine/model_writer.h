#ifndef CAIRN_MERGE_ENGINE_MODEL_WRITER_H_
#define CAIRN_MERGE_ENGINE_MODEL_WRITER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/mutex.h"
#include "core/tensor/safetensors.h"
#include "merge/engine/tensor_stream.h"
#include "merge/engine/write_behind.h"

namespace cairn {

// A tensor that is done.
struct FinishedTensor {
  std::string sha256;
  // For each input, a hash of what was read of it.
  std::vector<std::string> inputs;
};

// Writes the safetensors files of a new model: model.safetensors, or shards
// with an index. Tensors are filled in any order by several threads; each that
// is done goes to a journal, from which an interrupted run is taken up again:
// a tensor counts only if its bytes still have the digest that the journal
// says. Thread-safe but for Create() and Finish().
class ModelWriter {
 public:
  // Takes up what lies in `directory` if it was begun with the same `key`,
  // which names all that decides the bytes; else starts anew. `tensors` are
  // sorted by name.
  static absl::StatusOr<std::unique_ptr<ModelWriter>> Create(
      const std::string& directory, const std::vector<TensorSpec>& tensors,
      const std::string& key);
  ~ModelWriter();
  ModelWriter(const ModelWriter&) = delete;
  ModelWriter& operator=(const ModelWriter&) = delete;

  // The tensor's result of an earlier run, if its bytes are still there.
  absl::StatusOr<const FinishedTensor*> FindFinished(const std::string& tensor);

  // Where a tensor's bytes go.
  const TensorPlace& PlaceOf(const std::string& tensor) const {
    return places_.at(tensor);
  }
  // Notes that all bytes of a tensor are made and on their way to the disk.
  absl::Status FinishTensor(const std::string& tensor,
                            const FinishedTensor& result);
  // All bytes are written: makes the files durable, writes the index and
  // removes the journal.
  absl::Status Finish() &&;

 private:
  ModelWriter() = default;
  absl::Status OpenFiles(const std::vector<std::vector<TensorSpec>>& shards,
                         bool is_resumed);
  absl::Status ReadJournal(const std::string& key, bool& is_resumed);

  std::string directory_;
  std::vector<std::unique_ptr<WrittenFile>> files_;
  std::map<std::string, TensorPlace> places_;
  int64_t tensor_bytes_ = 0;
  std::map<std::string, FinishedTensor> finished_;  // of an earlier run
  Mutex mutex_;
  int journal_ ABSL_GUARDED_BY(mutex_) = -1;
};

// The file that marks a directory as unfinished.
inline constexpr char kJournalFile[] = "merge-journal.jsonl";

}  // namespace cairn

#endif  // CAIRN_MERGE_ENGINE_MODEL_WRITER_H_
