#include "merge/cuda/testing/tile_device_cases.h"

#include <stdlib.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/tensor/float_bits.h"
#include "gtest/gtest.h"
#include "merge/engine/device_merge.h"
#include "merge/engine/output_executor.h"
#include "merge/method/testing/method_cases.h"

namespace cairn::testing {
namespace {

constexpr DType kTypes[] = {DType::kF32, DType::kBF16, DType::kF16};

size_t WidthOf(DType dtype) {
  return static_cast<size_t>(DTypeBits(dtype) / 8);
}

std::vector<char> Packed(DType dtype, const std::vector<float>& values) {
  std::vector<char> bytes(values.size() * WidthOf(dtype));
  FromFloats(dtype, values, absl::MakeSpan(bytes));
  return bytes;
}

std::vector<float> Unpacked(DType dtype, const std::vector<char>& bytes) {
  std::vector<float> values(bytes.size() / WidthOf(dtype));
  ToFloats(dtype, bytes, absl::MakeSpan(values));
  return values;
}

// The result of a device, tile by tile.
std::vector<char> RunOnDevice(TileDevice& device, const TileWork& work,
                              const std::vector<std::vector<char>>& inputs,
                              int64_t elements, int64_t tile) {
  std::vector<char> out;
  auto queue = device.OpenQueue();
  EXPECT_TRUE(queue.ok()) << queue.status();
  if (!queue.ok()) return out;
  const absl::Status status = MergeOnDevice(
      **queue, work, elements, tile,
      [&](size_t input, int64_t first, size_t count, absl::Span<char> to) {
        const size_t width = WidthOf(work.inputs[input]);
        std::memcpy(to.data(),
                    inputs[input].data() + static_cast<size_t>(first) * width,
                    count * width);
        return absl::OkStatus();
      },
      [&](int64_t first, absl::Span<const char> bytes) {
        EXPECT_EQ(out.size(),
                  static_cast<size_t>(first) * WidthOf(work.dtype));
        out.insert(out.end(), bytes.begin(), bytes.end());
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

void ExpectSameBytes(DType dtype, const std::vector<char>& got,
                     const std::vector<char>& wanted, const std::string& what) {
  ASSERT_EQ(got.size(), wanted.size()) << what;
  if (got == wanted) return;
  const std::vector<float> a = Unpacked(dtype, got);
  const std::vector<float> b = Unpacked(dtype, wanted);
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    ASSERT_EQ(BitsOfFloat(a[i]), BitsOfFloat(b[i]))
        << what << " element " << i << ": " << a[i] << " is not " << b[i];
  }
}

struct Case {
  DType input, work, out;
};

// The numbers of a finished method, with its passes run.
std::optional<ElementFormula> FormulaOf(const MethodSpec& spec,
                                        const MethodTask& task,
                                        const Tensors& tensors) {
  auto method = spec.make(task).value();
  InputTile tile = {.first = 0, .count = tensors[0].size(), .inputs = {}};
  for (const auto& tensor : tensors) tile.inputs.push_back(tensor.data());
  for (int pass = 0; pass < method->passes(); ++pass) {
    method->Observe(pass, tile);
    EXPECT_TRUE(method->EndPass(pass).ok()) << spec.name;
  }
  return method->Formula();
}

bool AreFinite(const Tensors& tensors) {
  for (const std::vector<float>& tensor : tensors) {
    for (const float value : tensor) {
      if (!std::isfinite(value)) return false;
    }
  }
  return true;
}

void ExpectMethod(TileDevice& device, const MethodSpec& spec,
                  const MethodTask& task, const Tensors& exact,
                  const Case& types) {
  TileWork work = {.formula = {},
                   .inputs = std::vector<DType>(exact.size(), types.input),
                   .work_dtype = types.work,
                   .dtype = types.out};
  std::vector<std::vector<char>> stored;
  Tensors tensors;
  for (const std::vector<float>& tensor : exact) {
    stored.push_back(Packed(types.input, tensor));
    tensors.push_back(Unpacked(types.input, stored.back()));
    RoundTo(types.work, absl::MakeSpan(tensors.back()));
  }
  // Passes make nothing of what has become infinite.
  if (spec.make(task).value()->passes() > 0 && !AreFinite(tensors)) return;
  std::optional<ElementFormula> formula = FormulaOf(spec, task, tensors);
  ASSERT_TRUE(formula.has_value()) << spec.name;
  work.formula = *std::move(formula);
  std::vector<float> merged = RunMethod(spec, task, tensors, 4096);
  RoundTo(types.work, absl::MakeSpan(merged));
  const std::vector<char> wanted = Packed(types.out, merged);
  const int64_t elements = task.elements();
  for (const int64_t tile : {elements, int64_t{1000}}) {
    ExpectSameBytes(
        types.out, RunOnDevice(device, work, stored, elements, tile), wanted,
        absl::StrCat(spec.name, " ", DTypeName(types.input), " ",
                     DTypeName(types.work), " ", DTypeName(types.out), " of ",
                     elements, " in tiles of ", tile));
  }
}

}  // namespace

void ExpectMethodsGiveTheProcessorsBits(TileDevice& device) {
  for (const MethodSpec& spec : AllMethods()) {
    const size_t inputs = InputsFor(spec);
    for (const std::vector<int64_t>& shape :
         std::vector<std::vector<int64_t>>{{1}, {37}, {3, 5, 7}, {61, 173}}) {
      MethodTask task = Task(spec, shape, inputs);
      if (spec.name == "passthrough") task.inputs[0].parameters["scale"] = -1.3;
      Tensors measured = RandomTensors(inputs, 1);
      AddFisher(spec, task, measured);
      if (!spec.make(task).value()->Formula()) continue;
      for (const Tensors& tensors : TensorsFor(spec, task, inputs)) {
        for (const DType dtype : kTypes) {
          ExpectMethod(device, spec, task, tensors,
                       {dtype, DType::kF32, dtype});
        }
        ExpectMethod(device, spec, task, tensors,
                     {DType::kBF16, DType::kBF16, DType::kBF16});
        ExpectMethod(device, spec, task, tensors,
                     {DType::kF32, DType::kBF16, DType::kF16});
      }
    }
  }
}

void ExpectConversionsGiveTheProcessorsBits(TileDevice& device) {
  const MethodSpec& spec = *FindMethod("passthrough");
  std::vector<float> values;
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    std::vector<char> all(size_t{2} << 16);
    for (uint32_t bits = 0; bits < 1u << 16; ++bits) {
      const auto half = static_cast<uint16_t>(bits);
      std::memcpy(all.data() + 2 * bits, &half, 2);
    }
    for (const float value : Unpacked(dtype, all)) {
      // The number, its neighbours, and those halfway to the next and beside.
      const uint32_t bits = BitsOfFloat(value);
      for (const uint32_t step :
           {0u, 1u, ~0u, 0xfffu, 0x1000u, 0x1001u, 0x7fffu, 0x8000u, 0x8001u}) {
        values.push_back(FloatOfBits(bits + step));
      }
    }
  }
  MethodTask task =
      Task(spec, {static_cast<int64_t>(values.size())}, 1);
  task.inputs[0].parameters["scale"] = 1;
  for (const DType from : kTypes) {
    for (const DType to : kTypes) {
      ExpectMethod(device, spec, task, {values}, {from, DType::kF32, to});
      ExpectMethod(device, spec, task, {values}, {from, to, DType::kF32});
    }
  }
}

namespace {

// A model of a few tensors, some large enough for a device.
std::shared_ptr<ModelSource> MakeModel(const std::string& label,
                                       uint32_t seed) {
  std::vector<TensorSpec> specs = {{"big", DType::kBF16, {300, 701}},
                                   {"half", DType::kF16, {1, 70001}},
                                   {"plain", DType::kF32, {256, 257}},
                                   {"small", DType::kBF16, {33}}};
  const SafetensorsLayout layout = LayOutSafetensors(specs, {}).value();
  std::string file = layout.header;
  for (const TensorEntry& entry : layout.tensors) {
    Tensors tensors =
        RandomTensors(1 + seed, static_cast<size_t>(entry.elements()));
    const std::vector<char> bytes = Packed(entry.dtype, tensors[seed]);
    file.append(bytes.data(), bytes.size());
  }
  auto checkpoint = std::make_shared<Checkpoint>(
      Checkpoint::Open({{"config.json", MakeMemorySource("{}")},
                        {"model.safetensors", MakeMemorySource(file)}})
          .value());
  return std::make_shared<ModelSource>(
      ModelSource::Open(label, std::move(checkpoint)).value());
}

OutputPlan PlanOf(const MethodSpec& spec) {
  OutputPlan plan;
  const size_t inputs = InputsFor(spec);
  for (uint32_t i = 0; i < inputs; ++i) {
    plan.sources.push_back(MakeModel(absl::StrCat("model", i), i));
  }
  for (const auto& [name, tensor] : plan.sources[0]->tensors()) {
    PlannedOutput output;
    output.name = name;
    output.shape = tensor.spec.shape;
    output.dtype = tensor.spec.dtype;
    for (size_t i = 0; i < inputs; ++i) {
      output.inputs.push_back({.source = i, .tensor = name});
    }
    output.method = &spec;
    output.task = Task(spec, output.shape, inputs);
    plan.outputs.push_back(std::move(output));
  }
  return plan;
}

OutputResult RunPlan(const MethodSpec& spec, int threads, TileDevice* device) {
  std::string folder = ::testing::TempDir() + "/tile_device_XXXXXX";
  EXPECT_NE(mkdtemp(folder.data()), nullptr);
  OutputPlan plan = PlanOf(spec);
  const OutputCost cost =
      CostOf(plan, {.threads = threads,
                    .memory_bytes = int64_t{64} << 20,
                    .device = device})
          .value();
  EXPECT_EQ(cost.device_outputs, device == nullptr ? 0 : 3);
  EXPECT_TRUE(BindInputs(plan).ok());
  std::vector<TensorSpec> tensors;
  for (const PlannedOutput& output : plan.outputs) {
    tensors.push_back(output.spec());
  }
  auto writer = ModelWriter::Create(folder, tensors, "{}").value();
  auto result = RunOutputs(plan, cost, *writer, {.device = device});
  EXPECT_TRUE(result.ok()) << result.status();
  std::filesystem::remove_all(folder);
  return result.ok() ? *std::move(result) : OutputResult{};
}

}  // namespace

void ExpectModelsGiveTheProcessorsBytes(TileDevice& device) {
  for (const char* name : {"task_arithmetic", "dare_ties", "model_stock"}) {
    const MethodSpec& spec = *FindMethod(name);
    const OutputResult wanted = RunPlan(spec, 2, nullptr);
    for (const int threads : {1, 3}) {
      const OutputResult got = RunPlan(spec, threads, &device);
      EXPECT_EQ(got.sha256, wanted.sha256) << name;
      EXPECT_EQ(got.sources, wanted.sources) << name;
    }
  }
}

}  // namespace cairn::testing
