#ifndef CAIRN_CORE_UPDATE_SPARSE_LAYOUT_H_
#define CAIRN_CORE_UPDATE_SPARSE_LAYOUT_H_

#include <cstddef>

namespace cairn {

// The byte strings of a sparse update; README.md has the layout.
inline constexpr char kSparseTable[] = "cairn.tensors";
inline constexpr char kSparseGaps[] = "cairn.gaps";
inline constexpr char kSparseValues[] = "cairn.values";

inline constexpr size_t kSparseNameBytesMax = 1024;

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_SPARSE_LAYOUT_H_
