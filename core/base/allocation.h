#ifndef CAIRN_CORE_BASE_ALLOCATION_H_
#define CAIRN_CORE_BASE_ALLOCATION_H_

namespace cairn {

// Has the allocator keep some MiB of freed memory for the next buffers instead
// of giving it back to the system at once. A program that moves bytes frees
// and takes buffers thousands of times a second, and touching fresh pages
// costs more than copying into used ones. For main(), before other threads.
void KeepFreedBuffers();

}  // namespace cairn

#endif  // CAIRN_CORE_BASE_ALLOCATION_H_
