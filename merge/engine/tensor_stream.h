#ifndef CAIRN_MERGE_ENGINE_TENSOR_STREAM_H_
#define CAIRN_MERGE_ENGINE_TENSOR_STREAM_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "core/base/digest.h"
#include "core/base/lane_hasher.h"
#include "merge/engine/write_behind.h"

namespace cairn {

// Where the bytes of one tensor go.
struct TensorPlace {
  WrittenFile* file = nullptr;
  int64_t begin = 0;
  int64_t size = 0;
};

// The bytes of one tensor on their way, from front to back: into a buffer that
// goes to the disk, and into a digest. Not thread-safe.
class TensorStream {
 public:
  TensorStream(WriteBehind& disk, const TensorPlace& place)
      : disk_(disk), place_(place) {}
  ~TensorStream();
  TensorStream(const TensorStream&) = delete;
  TensorStream& operator=(const TensorStream&) = delete;

  // Room for the next bytes: `wanted`, or as many as a buffer holds.
  absl::Span<char> Room(size_t wanted);
  // That many bytes of the room have been filled.
  void Fill(size_t count);
  // Fills in bytes that lie elsewhere.
  void Append(absl::Span<const char> bytes);

  // Hashes what was filled since the last time, of all streams together, which
  // is quicker than one by one.
  static void HashTogether(absl::Span<TensorStream* const> streams);
  // Hands the last bytes to the disk. All bytes of the tensor have been
  // filled.
  Digest Finish();
  // Whether what was handed to the disk got there, of all tensors so far.
  absl::Status status() const { return disk_.status(); }

 private:
  // Takes a buffer whose first byte is for the page of the next one.
  void TakeBuffer();
  // Writes whole pages and goes on in another buffer with what is left.
  void Flush();
  absl::string_view Unhashed() const;

  WriteBehind& disk_;
  const TensorPlace place_;
  int64_t filled_ = 0;         // bytes of the tensor
  char* buffer_ = nullptr;     // null: none is held
  int64_t offset_ = 0;         // of the buffer in the file
  size_t begin_ = 0;           // bytes of the buffer that are of use
  size_t hashed_ = 0, end_ = 0;
  LaneHasher hasher_;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_ENGINE_TENSOR_STREAM_H_
