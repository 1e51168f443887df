# The libtorch inside PyPI's torch wheel: for GPUs, or where a distribution has
# none. The wheel's own TorchConfig.cmake refuses a wheel for CUDA where there
# is no CUDA toolkit, though headers and libraries are all that is needed.
#
# Reads CAIRN_TORCH_WHEEL, the folder `torch` in site-packages:
#   python3 -c 'import torch; print(torch.__path__[0])'
# Defines the target `torch`, as find_package(Torch) does.

# The folder may have changed since the last time.
unset(TorchWheel_INCLUDE_DIR CACHE)
find_path(TorchWheel_INCLUDE_DIR ATen/ATen.h
  PATHS "${CAIRN_TORCH_WHEEL}/include" NO_DEFAULT_PATH)
foreach(library torch torch_cpu c10 torch_cuda c10_cuda)
  unset(TorchWheel_${library}_LIBRARY CACHE)
  find_library(TorchWheel_${library}_LIBRARY ${library}
    PATHS "${CAIRN_TORCH_WHEEL}/lib" NO_DEFAULT_PATH)
endforeach()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(TorchWheel
  REQUIRED_VARS TorchWheel_INCLUDE_DIR TorchWheel_torch_LIBRARY
    TorchWheel_torch_cpu_LIBRARY TorchWheel_c10_LIBRARY
  REASON_FAILURE_MESSAGE
    "CAIRN_TORCH_WHEEL should name the folder `torch` of site-packages")
if(NOT TorchWheel_FOUND OR TARGET torch)
  return()
endif()

# Its strings have to be those of the other libraries.
file(STRINGS "${CAIRN_TORCH_WHEEL}/share/cmake/Torch/TorchConfig.cmake"
  TorchWheel_OLD_ABI REGEX "_GLIBCXX_USE_CXX11_ABI=0")
if(TorchWheel_OLD_ABI)
  message(FATAL_ERROR "${CAIRN_TORCH_WHEEL} was built with the C++ ABI from "
    "before C++11; take a wheel of torch 2.7 or later")
endif()

# Beside its own headers the wheel has some of other libraries, in versions of
# its own: a folder with links to what is torch's keeps them apart.
set(TorchWheel_HEADERS "${PROJECT_BINARY_DIR}/torch_wheel")
file(MAKE_DIRECTORY "${TorchWheel_HEADERS}")
foreach(folder ATen c10 caffe2 torch)
  if(EXISTS "${TorchWheel_INCLUDE_DIR}/${folder}")
    file(CREATE_LINK "${TorchWheel_INCLUDE_DIR}/${folder}"
      "${TorchWheel_HEADERS}/${folder}" SYMBOLIC)
  endif()
endforeach()

# Nothing of ours names a symbol of the CUDA libraries: they register their
# kernels when they are loaded, so the linker has to keep them.
set(libraries ${TorchWheel_torch_cpu_LIBRARY} ${TorchWheel_c10_LIBRARY})
if(TorchWheel_torch_cuda_LIBRARY)
  list(APPEND libraries ${TorchWheel_torch_cuda_LIBRARY}
    ${TorchWheel_c10_cuda_LIBRARY})
endif()
add_library(torch INTERFACE IMPORTED GLOBAL)
target_include_directories(torch INTERFACE "${TorchWheel_HEADERS}"
  "${TorchWheel_HEADERS}/torch/csrc/api/include")
target_link_libraries(torch INTERFACE
  -Wl,--no-as-needed ${TorchWheel_torch_LIBRARY} ${libraries}
  -Wl,--as-needed Threads::Threads)
target_link_options(torch INTERFACE "-Wl,-rpath,${CAIRN_TORCH_WHEEL}/lib")
