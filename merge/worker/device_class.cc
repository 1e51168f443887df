#include "merge/worker/device_class.h"

#include <ATen/Version.h>
#include <dlfcn.h>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/base/device_name.h"
#include "merge/kernel/product.h"
#include "merge/kernel/row_kernels.h"

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

// The model of a GPU as the driver names it, e.g. "-nvidia-h200"; empty where
// it does not say. Asked of the driver, which whatever computes there has
// loaded, so that this builds without CUDA.
std::string GpuModel(int index) {
  using Init = int (*)(unsigned);
  using Get = int (*)(int*, int);
  using GetName = int (*)(char*, int, int);
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY);
  if (driver == nullptr) return "";
  const auto init = reinterpret_cast<Init>(dlsym(driver, "cuInit"));
  const auto get = reinterpret_cast<Get>(dlsym(driver, "cuDeviceGet"));
  const auto get_name =
      reinterpret_cast<GetName>(dlsym(driver, "cuDeviceGetName"));
  int device = 0;
  char name[128] = {};
  if (init == nullptr || get == nullptr || get_name == nullptr ||
      init(0) != 0 || get(&device, index) != 0 ||
      get_name(name, sizeof(name) - 1, device) != 0) {
    return "";
  }
  std::string model = absl::AsciiStrToLower(absl::StrCat("-", name));
  for (char& c : model) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c))) c = '-';
  }
  return model;
}

absl::string_view Bf16Suffix() {
  switch (BestBf16Instruction()) {
    case Bf16Instruction::kAmx:
      return "-amx";
    case Bf16Instruction::kAvx512:
      return "-bf16";
    case Bf16Instruction::kNone:
      break;
  }
  return "";
}

}  // namespace

std::string DeviceClass(absl::string_view device) {
  const auto index = ParseDeviceName(device);
  if (index.ok() && index->has_value()) {
    return absl::StrCat("cuda", GpuModel(**index));
  }
  return absl::StrCat("cpu-", Architecture(), "-", InstructionSet(), "-",
                      MatrixLibrary(), "-", kKernelRevision, Bf16Suffix());
}

}  // namespace cairn
