#ifndef CAIRN_CORE_BASE_VECTOR_CLONES_H_
#define CAIRN_CORE_BASE_VECTOR_CLONES_H_

// Before a function: compile it once for each width of vectors and choose when
// the program starts. Files that use it are compiled without contraction of
// a*b+c, so that the choice never shows in a result. Sanitizers run before the
// choice can be made, so their builds have one version.
#if defined(__x86_64__) && !defined(CAIRN_NO_CLONES)
#define CAIRN_VECTOR_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CAIRN_VECTOR_CLONES
#endif

// Before a loop: no step reads what an earlier one writes, so that several may
// be taken at once. Other compilers than gcc have to find out.
#if defined(__GNUC__) && !defined(__clang__)
#define CAIRN_IVDEP _Pragma("GCC ivdep")
#else
#define CAIRN_IVDEP
#endif

namespace cairn {

// Of what was compiled by hand for each width of vectors, what suits this
// machine: `avx512` needs AVX-512 F and DQ, `avx2` also FMA.
template <typename T>
const T& WidestOf(const T& portable, [[maybe_unused]] const T& avx2,
                  [[maybe_unused]] const T& avx512) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) {
    return avx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return avx2;
  }
#endif
  return portable;
}

}  // namespace cairn

#endif  // CAIRN_CORE_BASE_VECTOR_CLONES_H_
