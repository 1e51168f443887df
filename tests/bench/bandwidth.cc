// How near the elementwise methods of merge/method come to the memory's
// bandwidth: on tiles of F32 tensors that lie in memory, bytes read once and
// written once a second, beside a copy as STREAM makes it, in the same run.
//   bandwidth [MIB_OF_A_TENSOR [THREADS [ROUNDS]]]

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "merge/method/tensor_method.h"

namespace cairn {
namespace {

constexpr size_t kTileElements = size_t{1} << 15;
constexpr size_t kModels = 3;  // and a base

struct Arrays {
  explicit Arrays(size_t elements)
      : inputs(kModels + 1, std::vector<float>(elements)), out(elements) {
    uint32_t state = 1;
    for (auto& input : inputs) {
      for (float& value : input) {
        state = state * 1664525u + 1013904223u;
        value = static_cast<float>(static_cast<int32_t>(state)) * 1e-11f;
      }
    }
  }

  std::vector<std::vector<float>> inputs;
  std::vector<float> out;
};

// Seconds of `work(begin, end)` over equal parts of the elements, one a thread.
double Time(size_t elements, int threads,
            const std::function<void(size_t, size_t)>& work) {
  const auto start = std::chrono::steady_clock::now();
  {
    const size_t tiles = (elements + kTileElements - 1) / kTileElements;
    const auto parts = static_cast<size_t>(threads);
    std::vector<std::jthread> others;
    for (size_t t = 0; t < parts; ++t) {
      const size_t begin = tiles * t / parts * kTileElements;
      const size_t end =
          std::min(elements, tiles * (t + 1) / parts * kTileElements);
      others.emplace_back([&work, begin, end] { work(begin, end); });
    }
  }
  const std::chrono::duration<double> taken =
      std::chrono::steady_clock::now() - start;
  return taken.count();
}

MethodTask TaskOf(const MethodSpec& spec, size_t elements, size_t inputs) {
  MethodTask task;
  task.shape = {static_cast<int64_t>(elements)};
  task.inputs.resize(inputs);
  if (spec.base == MethodSpec::Base::kRequired) task.base = 0;
  for (const MethodParameter& parameter : spec.parameters) {
    if (parameter.is_optional) continue;
    const double value = parameter.fallback.value_or(0.3);
    if (parameter.scope == MethodParameter::Scope::kShared) {
      task.parameters[parameter.name] = value;
      continue;
    }
    for (MethodTask::Input& input : task.inputs) {
      input.parameters[parameter.name] = value;
    }
  }
  if (spec.name == "passthrough") task.inputs[0].parameters["scale"] = 0.9;
  return task;
}

size_t InputsOf(const MethodSpec& spec) {
  const size_t base = spec.base == MethodSpec::Base::kRequired ? 1 : 0;
  const auto models = std::min(
      {kModels, static_cast<size_t>(spec.others_max),
       static_cast<size_t>(spec.inputs_max) - base});
  return base + models;
}

// Merges elements [begin, end) tile by tile.
void Merge(const MethodSpec& spec, const MethodTask& task, Arrays& arrays,
           size_t begin, size_t end) {
  const auto method = MakeMethod(spec, task).value();
  InputTile tile;
  tile.inputs.resize(task.inputs.size());
  for (size_t first = begin; first < end; first += kTileElements) {
    tile.first = static_cast<int64_t>(first);
    tile.count = std::min(kTileElements, end - first);
    for (size_t i = 0; i < tile.inputs.size(); ++i) {
      tile.inputs[i] = arrays.inputs[i].data() + first;
    }
    method->Combine(tile, arrays.out.data() + first);
  }
}

// As the compiler makes a loop, without turning it into memcpy.
__attribute__((optimize("O3", "no-tree-loop-distribute-patterns"))) void
CopyLoop(const float* from, float* to, size_t count) {
  for (size_t i = 0; i < count; ++i) to[i] = from[i];
}

struct Case {
  std::string name;
  double bytes = 0;  // read once and written once
  std::function<void(size_t, size_t)> work;
  double seconds = 1e9;
};

int Main(size_t mib, int threads, int rounds) {
  const size_t elements = mib * (size_t{1} << 20) / sizeof(float);
  Arrays arrays(elements);
  const auto bytes = [&](size_t inputs) {
    return static_cast<double>((inputs + 1) * elements * sizeof(float));
  };
  std::vector<Case> cases = {
      {.name = "copy, a loop",
       .bytes = bytes(1),
       .work = [&](size_t begin, size_t end) {
         CopyLoop(arrays.inputs[0].data() + begin, arrays.out.data() + begin,
                  end - begin);
       }},
      {.name = "copy, memcpy",
       .bytes = bytes(1),
       .work = [&](size_t begin, size_t end) {
         std::memcpy(arrays.out.data() + begin,
                     arrays.inputs[0].data() + begin,
                     (end - begin) * sizeof(float));
       }}};
  const size_t copies = cases.size();
  for (const MethodSpec& spec : AllMethods()) {
    const size_t inputs = InputsOf(spec);
    const MethodTask task = TaskOf(spec, elements, inputs);
    const auto method = MakeMethod(spec, task);
    if (!method.ok() || spec.is_random || (*method)->passes() > 0 ||
        !(*method)->Formula()) {
      continue;
    }
    cases.push_back({.name = spec.name,
                     .bytes = bytes(inputs),
                     .work = [&, task](size_t begin, size_t end) {
                       Merge(spec, task, arrays, begin, end);
                     }});
  }
  for (int round = 0; round < rounds; ++round) {
    for (Case& one : cases) {
      one.seconds = std::min(one.seconds, Time(elements, threads, one.work));
    }
  }
  double copy = 0;
  for (size_t i = 0; i < copies; ++i) {
    copy = std::max(copy, cases[i].bytes / cases[i].seconds);
  }
  std::printf("%zu MiB a tensor, %d threads, best of %d rounds\n", mib, threads,
              rounds);
  for (const Case& one : cases) {
    const double rate = one.bytes / one.seconds;
    std::printf("%-16s %7.2f GB/s  %4.0f %% of the copy\n", one.name.c_str(),
                rate / 1e9, 100 * rate / copy);
  }
  return 0;
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) {
  const auto argument = [&](int i, int fallback) {
    return argc > i ? std::max(1, std::atoi(argv[i])) : fallback;
  };
  return cairn::Main(static_cast<size_t>(argument(1, 256)), argument(2, 2),
                     argument(3, 5));
}
