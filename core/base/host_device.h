#ifndef CAIRN_CORE_BASE_HOST_DEVICE_H_
#define CAIRN_CORE_BASE_HOST_DEVICE_H_

// Before a function: it is also compiled for GPUs where the file that includes
// it is. Headers with such functions include no others than these and the
// language's own.
#if defined(__CUDACC__)
#define CAIRN_HOST_DEVICE __host__ __device__
#else
#define CAIRN_HOST_DEVICE
#endif

#endif  // CAIRN_CORE_BASE_HOST_DEVICE_H_
