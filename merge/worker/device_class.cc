#include "merge/worker/device_class.h"

#include <ATen/Version.h>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace cairn {
namespace {

std::string InstructionSet() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")) {
    return "x86_64-avx512";
  }
  if (__builtin_cpu_supports("avx2")) return "x86_64-avx2";
  return "x86_64-sse2";
#elif defined(__aarch64__)
  return "aarch64";
#else
  return "other";
#endif
}

std::string MatrixLibrary() {
  const std::string config = absl::AsciiStrToLower(at::show_config());
  for (const char* name : {"mkl", "openblas", "accelerate", "blis"}) {
    if (absl::StrContains(config, absl::StrCat("blas_info=", name))) {
      return name;
    }
  }
  return "blas";
}

}  // namespace

std::string DeviceClass(absl::string_view device) {
  if (absl::StartsWith(device, "cuda")) return "cuda";
  return absl::StrCat("cpu-", InstructionSet(), "-", MatrixLibrary());
}

}  // namespace cairn
