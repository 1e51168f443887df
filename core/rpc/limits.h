#ifndef CAIRN_CORE_RPC_LIMITS_H_
#define CAIRN_CORE_RPC_LIMITS_H_

#include <cstdint>

namespace cairn {

// What both ends of a connection obey.
inline constexpr int64_t kChunkBytes = 256 << 10;
// Uploads from this size on are sent in parts over so many connections.
inline constexpr int64_t kSharedUploadBytesMin = 64 << 20;
inline constexpr int kUploadLanes = 4;
// Downloads from this size on are read in ranges over several connections: so
// many of them at once, and more over a line that is slow.
inline constexpr int64_t kSharedDownloadBytesMin = 64 << 20;
inline constexpr int kDownloadLanes = 2;
inline constexpr int kSlowDownloadLanes = 4;
// Initial metadata of a stream that was admitted.
inline constexpr char kStreamOpenKey[] = "cairn-stream-open";
inline constexpr int64_t kBatchUploadBytesMax = 3 << 20;
inline constexpr int kMessageBytesMax = 4 << 20;
// What either end takes in one frame: a chunk, rather than a sixteenth of it.
inline constexpr int kFrameBytesMax = 512 << 10;
inline constexpr int kFindMissingMax = 10'000;
inline constexpr int kPageSizeDefault = 50;
inline constexpr int kPageSizeMax = 1'000;

}  // namespace cairn

#endif  // CAIRN_CORE_RPC_LIMITS_H_
