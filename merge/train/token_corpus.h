#ifndef CAIRN_MERGE_TRAIN_TOKEN_CORPUS_H_
#define CAIRN_MERGE_TRAIN_TOKEN_CORPUS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "merge/train/random.h"

namespace cairn {

// A training file and its share of the windows. By its name it is
// - *.jsonl: one document a line, {"input_ids": [...]}, no other field;
// - *.u16, *.u32: little-endian token ids, one document;
// - anything else: bytes, each its own token id (0 to 255), one document.
struct DataFile {
  std::string path;
  double weight = 1;
};

// Training text in memory, as token ids, from which windows are drawn.
// Immutable after Load, so thread-safe.
class TokenCorpus {
 public:
  // NOT_FOUND for an absent file; INVALID_ARGUMENT, naming file and line, for
  // one that holds anything but ids below `vocab_size`, or no document of at
  // least two.
  static absl::StatusOr<TokenCorpus> Load(absl::Span<const DataFile> files,
                                          int64_t vocab_size);

  // SHA-256, hex, of the bytes of all files one after another.
  const std::string& digest() const { return digest_; }
  int64_t tokens() const;

  // Window `index` of a run: at most `length` + 1 consecutive ids of one
  // document (fewer, but at least 2, where the document is shorter). A file is
  // drawn by weight, a document by length, a start evenly.
  std::vector<int64_t> Window(const CounterRandom& random, uint64_t index,
                              int64_t length) const;

 private:
  struct Part {
    double weight_end = 0;  // running sum of the weights
    std::vector<int32_t> ids;
    std::vector<int64_t> starts;  // of each document
  };

  static absl::Status Parse(const std::string& path, const std::string& bytes,
                            int64_t vocab_size, Part& part);

  std::vector<Part> parts_;
  std::string digest_;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_TRAIN_TOKEN_CORPUS_H_
