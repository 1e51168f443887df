#include "merge/worker/device_class.h"

#include <ATen/Version.h>
#include <dlfcn.h>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace cairn {
namespace {

absl::string_view Architecture() {
#if defined(__x86_64__)
  return "x86_64";
#elif defined(__aarch64__)
  return "aarch64";
#else
  return "other";
#endif
}

// What libtorch's own kernels use, as it says in its configuration.
std::string InstructionSet() {
  constexpr absl::string_view kLabel = "CPU capability usage: ";
  const std::string config = at::show_config();
  const size_t label = config.find(std::string(kLabel));
  if (label == std::string::npos) return "default";
  const size_t begin = label + kLabel.size();
  const size_t end = config.find('\n', begin);
  return absl::AsciiStrToLower(config.substr(begin, end - begin));
}

// The library behind matrix products and, where it chooses kernels by the
// processor, the kind it chose.
std::string MatrixLibrary() {
  using CoreName = char* (*)();
  if (void* symbol = dlsym(RTLD_DEFAULT, "openblas_get_corename")) {
    const char* core = reinterpret_cast<CoreName>(symbol)();
    return absl::AsciiStrToLower(absl::StrCat("openblas-", core));
  }
  if (dlsym(RTLD_DEFAULT, "mkl_get_version") != nullptr ||
      dlsym(RTLD_DEFAULT, "MKL_Get_Version") != nullptr) {
    return "mkl";
  }
  return "blas";
}

}  // namespace

std::string DeviceClass(absl::string_view device) {
  if (absl::StartsWith(device, "cuda")) return "cuda";
  return absl::StrCat("cpu-", Architecture(), "-", InstructionSet(), "-",
                      MatrixLibrary());
}

}  // namespace cairn
