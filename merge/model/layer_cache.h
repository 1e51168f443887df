#ifndef CAIRN_MERGE_MODEL_LAYER_CACHE_H_
#define CAIRN_MERGE_MODEL_LAYER_CACHE_H_

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "core/base/mutex.h"
#include "merge/model/model.h"

namespace cairn {

// What comes out of the first layers of a decoder, by its input, for models
// that are the same up to there. Thread-safe.
class LayerCache {
 public:
  struct Output {
    at::Tensor hidden;                  // [1, tokens, hidden]
    std::vector<Memory::Layer> memory;  // of these layers; empty: not kept
  };

  // Keeps `bytes_max` at most; what no longer fits is not kept.
  LayerCache(size_t layers, int64_t bytes_max)
      : layers_(layers), bytes_max_(bytes_max) {}

  size_t layers() const { return layers_; }

  // Of token ids [1, tokens]; none where it is not kept, or not with the
  // memory that is asked for.
  std::optional<Output> Find(const at::Tensor& ids, bool with_memory) const;
  void Add(const at::Tensor& ids, Output output);

 private:
  using Key = std::vector<int64_t>;
  static Key KeyOf(const at::Tensor& ids);

  const size_t layers_;
  const int64_t bytes_max_;
  mutable Mutex mutex_;
  std::map<Key, Output> outputs_ ABSL_GUARDED_BY(mutex_);
  int64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_MODEL_LAYER_CACHE_H_
