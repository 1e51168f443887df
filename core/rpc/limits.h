#ifndef CAIRN_CORE_RPC_LIMITS_H_
#define CAIRN_CORE_RPC_LIMITS_H_

#include <cstdint>

namespace cairn {

// What both ends of a connection obey.
inline constexpr int64_t kChunkBytes = 256 << 10;
inline constexpr int64_t kBatchUploadBytesMax = 3 << 20;
inline constexpr int kMessageBytesMax = 4 << 20;
inline constexpr int kFindMissingMax = 10'000;
inline constexpr int kPageSizeDefault = 50;
inline constexpr int kPageSizeMax = 1'000;

}  // namespace cairn

#endif  // CAIRN_CORE_RPC_LIMITS_H_
