#include "merge/model/layer_cache.h"

#include <ATen/ATen.h>

#include <utility>

namespace cairn {
namespace {

int64_t BytesOf(const LayerCache::Output& output) {
  auto bytes = static_cast<int64_t>(output.hidden.nbytes());
  for (const Memory::Layer& layer : output.memory) {
    bytes += static_cast<int64_t>(layer.keys.nbytes() + layer.values.nbytes());
  }
  return bytes;
}

}  // namespace

LayerCache::Key LayerCache::KeyOf(const at::Tensor& ids) {
  const at::Tensor packed = ids.to(at::kCPU).contiguous();
  const int64_t* begin = packed.data_ptr<int64_t>();
  return {begin, begin + packed.numel()};
}

std::optional<LayerCache::Output> LayerCache::Find(const at::Tensor& ids,
                                                   bool with_memory) const {
  const Key key = KeyOf(ids);
  MutexLock lock(mutex_);
  const auto found = outputs_.find(key);
  if (found == outputs_.end()) return std::nullopt;
  if (with_memory && found->second.memory.empty()) return std::nullopt;
  return found->second;
}

void LayerCache::Add(const at::Tensor& ids, Output output) {
  Key key = KeyOf(ids);
  const int64_t bytes = BytesOf(output);
  MutexLock lock(mutex_);
  const auto known = outputs_.find(key);
  if (known != outputs_.end()) {
    // Worth more with a memory than without.
    if (!known->second.memory.empty() || output.memory.empty()) return;
    bytes_ -= BytesOf(known->second);
    outputs_.erase(known);
  }
  if (bytes_ + bytes > bytes_max_) return;
  bytes_ += bytes;
  outputs_.emplace(std::move(key), std::move(output));
}

}  // namespace cairn
