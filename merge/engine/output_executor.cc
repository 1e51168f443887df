#include "merge/engine/output_executor.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/digest.h"
#include "core/base/mutex.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/engine/device_merge.h"
#include "merge/engine/piece_runner.h"

namespace cairn {
namespace {

// A hash of the stored bytes of one tensor, in order.
class InputHash {
 public:
  InputHash() : state_(XXH3_createState(), XXH3_freeState) {
    XXH3_128bits_reset(state_.get());
  }
  void Add(absl::Span<const char> bytes) {
    XXH3_128bits_update(state_.get(), bytes.data(), bytes.size());
  }
  std::string Finish() const {
    const XXH128_hash_t hash = XXH3_128bits_digest(state_.get());
    return absl::StrFormat("%016x%016x", hash.high64, hash.low64);
  }

 private:
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state_;
};

// One thread's buffers, used for every tile.
struct Scratch {
  std::vector<char> raw;
  std::vector<char> packed;
  std::vector<std::vector<float>> inputs;
  std::vector<float> result;
  std::unique_ptr<TileQueue> queue;  // when a device is first of use
};

// One tensor on its way.
class OutputTask {
 public:
  OutputTask(const OutputPlan& plan, const OutputCost& cost,
             const PlannedOutput& output, ModelWriter& writer,
             const OutputRun& run, Scratch& scratch)
      : plan_(plan),
        output_(output),
        writer_(writer),
        run_(run),
        scratch_(scratch),
        elements_(output.spec().elements()),
        tile_(cost.tile_elements),
        device_tile_(cost.device_tile_elements),
        hashes_(output.inputs.size()) {
    for (const PlannedOutput::Input& input : output.inputs) {
      tensors_.push_back(plan.sources[input.source]->Find(input.tensor));
    }
  }

  absl::StatusOr<FinishedTensor> Run() {
    if (output_.method == nullptr) {
      CAIRN_RETURN_IF_ERROR(Copy());
    } else if (IsPlainCopy()) {
      CAIRN_RETURN_IF_ERROR(Copy());
    } else {
      CAIRN_RETURN_IF_ERROR(Merge());
    }
    FinishedTensor done;
    done.sha256 = hasher_.Finish().hex();
    for (const InputHash& hash : hashes_) done.inputs.push_back(hash.Finish());
    return done;
  }

 private:
  // Whether the result is the stored bytes of the one input.
  bool IsPlainCopy() const {
    return output_.method->name == "passthrough" &&
           output_.task.inputs[0].parameters.empty() &&
           tensors_[0]->effect == nullptr &&
           tensors_[0]->spec.dtype == output_.dtype &&
           (output_.work_dtype == output_.dtype ||
            output_.work_dtype == DType::kF32);
  }

  absl::Status CheckCancelled() const {
    if (run_.is_cancelled != nullptr && run_.is_cancelled->load()) {
      return absl::CancelledError("interrupted; the same command goes on");
    }
    return absl::OkStatus();
  }

  // Copies bytes; several inputs have to be equal.
  absl::Status Copy() {
    const int64_t size = output_.spec().size_bytes();
    const int64_t step = tile_ * 4;
    scratch_.packed.resize(static_cast<size_t>(std::min(step, size)));
    scratch_.raw.resize(std::max(scratch_.raw.size(), scratch_.packed.size()));
    for (int64_t at = 0; at < size; at += step) {
      CAIRN_RETURN_IF_ERROR(CheckCancelled());
      const auto count = static_cast<size_t>(std::min(step, size - at));
      const absl::Span<char> bytes(scratch_.packed.data(), count);
      for (size_t i = 0; i < tensors_.size(); ++i) {
        const absl::Span<char> other(scratch_.raw.data(), count);
        const absl::Span<char> into = i == 0 ? bytes : other;
        const ModelSource& source = *plan_.sources[output_.inputs[i].source];
        CAIRN_RETURN_IF_ERROR(
            source.checkpoint()->ReadBytes(output_.inputs[i].tensor, at, into));
        hashes_[i].Add(into);
        if (into != bytes) {
          return absl::InvalidArgumentError(absl::StrCat(
              "is ", DTypeName(output_.dtype), " and differs between ",
              plan_.sources[output_.inputs[0].source]->label(), " and ",
              source.label(), ": only equal ones can be taken over"));
        }
      }
      CAIRN_RETURN_IF_ERROR(Emit(at, bytes));
    }
    return absl::OkStatus();
  }

  absl::Status Merge() {
    CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<TensorMethod> method,
                           MakeMethod(*output_.method, output_.task));
    const int64_t step = TileElements(tile_, method->granule());
    const int passes = elements_ == 0 ? 0 : method->passes();
    const bool is_one_tile = elements_ <= step;
    InputTile tile;
    for (int pass = 0; pass <= passes; ++pass) {
      if (pass == passes && run_.device != nullptr &&
          IsForDevice(output_, *method)) {
        return CombineOnDevice(*method->Formula(), passes == 0);
      }
      for (int64_t first = 0; first < elements_; first += step) {
        CAIRN_RETURN_IF_ERROR(CheckCancelled());
        tile.first = first;
        tile.count = static_cast<size_t>(std::min(step, elements_ - first));
        if (pass == 0 || !is_one_tile) {
          CAIRN_RETURN_IF_ERROR(ReadTile(pass == 0, tile));
        }
        if (pass < passes) {
          method->Observe(pass, tile);
        } else {
          CAIRN_RETURN_IF_ERROR(EmitTile(tile, *method));
        }
      }
      if (pass < passes) CAIRN_RETURN_IF_ERROR(method->EndPass(pass));
    }
    return absl::OkStatus();
  }

  // The last pass, by a device.
  absl::Status CombineOnDevice(ElementFormula formula, bool is_first_pass) {
    if (scratch_.queue == nullptr) {
      CAIRN_ASSIGN_OR_RETURN(scratch_.queue, run_.device->OpenQueue());
    }
    TileWork work = {.formula = std::move(formula),
                     .inputs = {},
                     .work_dtype = output_.work_dtype,
                     .dtype = output_.dtype};
    for (const SourceTensor* tensor : tensors_) {
      work.inputs.push_back(tensor->slot_dtype());
    }
    const int64_t width = DTypeBits(output_.dtype) / 8;
    return MergeOnDevice(
        *scratch_.queue, work, elements_, device_tile_,
        [&](size_t input, int64_t first, size_t count, absl::Span<char> out) {
          return ReadPacked(input, first, count, is_first_pass, out);
        },
        [&](int64_t first, absl::Span<const char> packed) {
          return EmitPacked(first * width, packed);
        });
  }

  // Elements of an input as a device takes them.
  absl::Status ReadPacked(size_t i, int64_t first, size_t count,
                          bool is_hashed, absl::Span<char> out) {
    CAIRN_RETURN_IF_ERROR(CheckCancelled());
    const ModelSource& source = *plan_.sources[output_.inputs[i].source];
    const SourceTensor& tensor = *tensors_[i];
    const auto width = static_cast<size_t>(DTypeBits(tensor.spec.dtype) / 8);
    absl::Span<const char> stored;
    if (tensor.stored != nullptr && tensor.effect == nullptr) {
      const absl::Span<char> bytes = out.subspan(0, count * width);
      CAIRN_RETURN_IF_ERROR(source.checkpoint()->ReadBytes(
          tensor.spec.name, first * static_cast<int64_t>(width), bytes));
      stored = bytes;
    } else {
      const absl::Span<float> numbers(reinterpret_cast<float*>(out.data()),
                                      count);
      CAIRN_RETURN_IF_ERROR(
          source.Read(tensor, first, numbers, scratch_.raw));
      stored = absl::Span<const char>(scratch_.raw.data(), count * width);
    }
    if (is_hashed && tensor.stored != nullptr) hashes_[i].Add(stored);
    return absl::OkStatus();
  }

  absl::Status ReadTile(bool is_first_pass, InputTile& tile) {
    scratch_.inputs.resize(std::max(scratch_.inputs.size(), tensors_.size()));
    tile.inputs.resize(tensors_.size());
    for (size_t i = 0; i < tensors_.size(); ++i) {
      const ModelSource& source = *plan_.sources[output_.inputs[i].source];
      const SourceTensor& tensor = *tensors_[i];
      std::vector<float>& values = scratch_.inputs[i];
      if (values.size() < tile.count) values.resize(tile.count);
      const absl::Span<float> out(values.data(), tile.count);
      CAIRN_RETURN_IF_ERROR(source.Read(tensor, tile.first, out, scratch_.raw));
      const size_t width =
          static_cast<size_t>(DTypeBits(tensor.spec.dtype) / 8);
      if (is_first_pass && tensor.stored != nullptr) {
        hashes_[i].Add(
            absl::Span<const char>(scratch_.raw.data(), tile.count * width));
      }
      if (output_.work_dtype != DType::kF32 &&
          output_.work_dtype != tensor.spec.dtype) {
        RoundTo(output_.work_dtype, out);
      }
      tile.inputs[i] = values.data();
    }
    return absl::OkStatus();
  }

  absl::Status EmitTile(const InputTile& tile, TensorMethod& method) {
    std::vector<float>& result = scratch_.result;
    if (result.size() < tile.count) result.resize(tile.count);
    method.Combine(tile, result.data());
    const absl::Span<float> values(result.data(), tile.count);
    if (output_.work_dtype != output_.dtype &&
        output_.work_dtype != DType::kF32) {
      RoundTo(output_.work_dtype, values);
    }
    const auto width = static_cast<size_t>(DTypeBits(output_.dtype) / 8);
    scratch_.packed.resize(
        std::max(scratch_.packed.size(), tile.count * width));
    const absl::Span<char> bytes(scratch_.packed.data(), tile.count * width);
    FromFloats(output_.dtype, values, bytes);
    return EmitPacked(tile.first * static_cast<int64_t>(width), bytes);
  }

  absl::Status EmitPacked(int64_t offset, absl::Span<const char> bytes) {
    if (!AllFinite(output_.dtype, bytes)) {
      return ReasonedError(absl::StatusCode::kInvalidArgument, "NON_FINITE",
                           absl::StrCat("the result holds a NaN or an infinity "
                                        "as ",
                                        DTypeName(output_.dtype)),
                           {{"tensor", output_.name}});
    }
    return Emit(offset, bytes);
  }

  absl::Status Emit(int64_t offset, absl::Span<const char> bytes) {
    CAIRN_RETURN_IF_ERROR(writer_.Write(output_.name, offset, bytes));
    hasher_.Update(absl::string_view(bytes.data(), bytes.size()));
    return absl::OkStatus();
  }

  const OutputPlan& plan_;
  const PlannedOutput& output_;
  ModelWriter& writer_;
  const OutputRun& run_;
  Scratch& scratch_;
  const int64_t elements_;
  const int64_t tile_;
  const int64_t device_tile_;
  std::vector<const SourceTensor*> tensors_;
  std::vector<InputHash> hashes_;
  Hasher hasher_;
};

// One hash of each source: of the names and hashes of what was read of it.
std::vector<std::string> SourceHashes(
    const OutputPlan& plan, const std::vector<FinishedTensor>& finished) {
  std::vector<std::set<std::string>> lines(plan.sources.size());
  for (size_t o = 0; o < finished.size(); ++o) {
    const PlannedOutput& output = plan.outputs[o];
    for (size_t i = 0; i < output.inputs.size(); ++i) {
      lines[output.inputs[i].source].insert(
          absl::StrCat(output.inputs[i].tensor, " ", finished[o].inputs[i]));
    }
  }
  std::vector<std::string> hashes;
  for (const std::set<std::string>& set : lines) {
    InputHash hash;
    for (const std::string& line : set) {
      hash.Add(absl::Span<const char>(line.data(), line.size()));
    }
    hashes.push_back(absl::StrCat("xxh3:", hash.Finish()));
  }
  return hashes;
}

}  // namespace

absl::StatusOr<OutputResult> RunOutputs(const OutputPlan& plan,
                                        const OutputCost& cost,
                                        ModelWriter& writer,
                                        const OutputRun& run) {
  std::vector<size_t> order(plan.outputs.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return plan.outputs[a].spec().size_bytes() >
           plan.outputs[b].spec().size_bytes();
  });
  std::vector<Scratch> scratch(static_cast<size_t>(cost.threads));
  std::vector<FinishedTensor> finished(plan.outputs.size());
  std::atomic<int64_t> bytes_done = 0;
  const absl::Status ran =
      RunPieces(cost.threads, static_cast<int64_t>(order.size()),
                [&](int worker, int64_t piece) -> absl::Status {
                  const size_t index = order[static_cast<size_t>(piece)];
                  const PlannedOutput& output = plan.outputs[index];
                  CAIRN_ASSIGN_OR_RETURN(const FinishedTensor* earlier,
                                         writer.FindFinished(output.name));
                  if (earlier != nullptr &&
                      earlier->inputs.size() == output.inputs.size()) {
                    finished[index] = *earlier;
                  } else {
                    OutputTask task(plan, cost, output, writer, run,
                                    scratch[static_cast<size_t>(worker)]);
                    auto done = task.Run();
                    if (!done.ok()) {
                      return Annotate(done.status(),
                                      absl::StrCat("tensor ", output.name));
                    }
                    finished[index] = *std::move(done);
                    CAIRN_RETURN_IF_ERROR(
                        writer.FinishTensor(output.name, finished[index]));
                  }
                  bytes_done += output.spec().size_bytes();
                  if (run.progress) run.progress(bytes_done);
                  return absl::OkStatus();
                });
  if (!ran.ok()) return ran;
  OutputResult result;
  for (size_t i = 0; i < finished.size(); ++i) {
    result.sha256[plan.outputs[i].name] = finished[i].sha256;
  }
  result.sources = SourceHashes(plan, finished);
  return result;
}

}  // namespace cairn
