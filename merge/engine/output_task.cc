#include "merge/engine/output_task.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/engine/device_merge.h"

namespace cairn {
namespace {

// Room for `count` values in one of several buffers.
template <typename T>
absl::Span<T> RoomIn(std::vector<std::vector<T>>& buffers, size_t index,
                     size_t count) {
  if (buffers.size() <= index) buffers.resize(index + 1);
  std::vector<T>& buffer = buffers[index];
  if (buffer.size() < count) buffer.resize(count);
  return {buffer.data(), count};
}

size_t WidthOf(DType dtype) {
  return static_cast<size_t>(DTypeBits(dtype) / 8);
}

}  // namespace

OutputTask::OutputTask(const OutputPlan& plan, const OutputCost& cost,
                       const PlannedOutput& output, const OutputRun& run,
                       const TensorPlace& place, WriteBehind& disk,
                       OutputScratch& scratch, Done done)
    : plan_(plan),
      cost_(cost),
      output_(output),
      run_(run),
      scratch_(scratch),
      stream_(disk, place),
      done_(std::move(done)),
      elements_(output.spec().elements()),
      hashes_(output.inputs.size()) {
  for (const PlannedOutput::Input& input : output.inputs) {
    tensors_.push_back(*plan.sources[input.source]->Find(input.tensor));
  }
}

// Whether the result is the stored bytes of the inputs.
bool OutputTask::IsCopy() const {
  if (output_.method == nullptr) return true;
  return output_.method->name == "passthrough" &&
         output_.task.inputs[0].parameters.empty() &&
         tensors_[0].effect == nullptr &&
         tensors_[0].spec.dtype == output_.dtype &&
         (output_.work_dtype == output_.dtype ||
          output_.work_dtype == DType::kF32);
}

absl::Status OutputTask::CheckCancelled() const {
  if (run_.is_cancelled != nullptr && run_.is_cancelled->load()) {
    return absl::CancelledError("interrupted; the same command goes on");
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> OutputTask::Step() {
  CAIRN_RETURN_IF_ERROR(CheckCancelled());
  CAIRN_RETURN_IF_ERROR(stream_.status());
  const auto step = [&]() -> absl::StatusOr<bool> {
    if (IsCopy()) {
      CAIRN_RETURN_IF_ERROR(CopyPart());
      return next_ < output_.spec().size_bytes();
    }
    if (method_ == nullptr) {
      CAIRN_RETURN_IF_ERROR(Prepare());
      if (run_.device != nullptr && IsForDevice(output_, *method_)) {
        CAIRN_RETURN_IF_ERROR(CombineOnDevice());
        return false;
      }
    }
    if (elements_ == 0) return false;
    if (!has_all_) CAIRN_RETURN_IF_ERROR(ReadTile(next_, step_, true));
    CAIRN_RETURN_IF_ERROR(CombineTile());
    return next_ < elements_;
  };
  absl::StatusOr<bool> has_more = step();
  if (has_more.ok()) return has_more;
  return Annotate(has_more.status(), absl::StrCat("tensor ", output_.name));
}

absl::Status OutputTask::Finish() {
  FinishedTensor done;
  done.sha256 = stream_.Finish().hex();
  for (const InputHash& hash : hashes_) done.inputs.push_back(hash.Finish());
  return done_(std::move(done));
}

absl::Status OutputTask::CopyPart() {
  const int64_t left = output_.spec().size_bytes() - next_;
  const auto wanted =
      static_cast<size_t>(std::min(left, cost_.tile_elements * 4));
  if (wanted == 0) return absl::OkStatus();
  const absl::Span<char> bytes = stream_.Room(wanted);
  const absl::Span<char> other = RoomIn(scratch_.raw, 0, bytes.size());
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const absl::Span<char> into = i == 0 ? bytes : other;
    const ModelSource& source = *plan_.sources[output_.inputs[i].source];
    CAIRN_RETURN_IF_ERROR(
        source.checkpoint()->ReadBytes(output_.inputs[i].tensor, next_, into));
    hashes_[i].Add(into);
    if (into != bytes) {
      return absl::InvalidArgumentError(absl::StrCat(
          "is ", DTypeName(output_.dtype), " and differs between ",
          plan_.sources[output_.inputs[0].source]->label(), " and ",
          source.label(), ": only equal ones can be taken over"));
    }
  }
  stream_.Fill(bytes.size());
  next_ += static_cast<int64_t>(bytes.size());
  return absl::OkStatus();
}

absl::Status OutputTask::Prepare() {
  for (SourceTensor& tensor : tensors_) {
    CAIRN_ASSIGN_OR_RETURN(tensor, tensor.Loaded());
  }
  CAIRN_ASSIGN_OR_RETURN(method_, MakeMethod(*output_.method, output_.task));
  step_ = TileElements(cost_.tile_elements, method_->granule());
  AlignToRows();
  strip_step_ = StripElements(step_, method_->granule());
  if (elements_ == 0) return absl::OkStatus();
  for (int pass = 0; pass < method_->passes(); ++pass) {
    CAIRN_RETURN_IF_ERROR(RunPass(pass, method_->scope(pass)));
    CAIRN_RETURN_IF_ERROR(method_->EndPass(pass));
  }
  return absl::OkStatus();
}

void OutputTask::AlignToRows() {
  const bool has_effect =
      std::any_of(tensors_.begin(), tensors_.end(),
                  [](const auto& tensor) { return tensor.effect != nullptr; });
  if (!has_effect || method_->passes() > 0 || method_->granule() > 1) return;
  step_ = EffectTileElements(step_, output_.shape);
}

absl::Status OutputTask::RunPass(int pass, PassScope scope) {
  if (scope == PassScope::kNone) return absl::OkStatus();
  if (elements_ <= step_) {
    if (!has_all_) CAIRN_RETURN_IF_ERROR(ReadTile(0, step_, true));
    has_all_ = true;
    ObserveTile(pass);
    return absl::OkStatus();
  }
  if (scope == PassScope::kLook) {
    for (int64_t first : LookPlaces(elements_)) {
      CAIRN_RETURN_IF_ERROR(ReadTile(first, kLookElements, false));
      ObserveTile(pass);
    }
    return absl::OkStatus();
  }
  for (int64_t first = 0; first < elements_; first += step_) {
    CAIRN_RETURN_IF_ERROR(CheckCancelled());
    CAIRN_RETURN_IF_ERROR(ReadTile(first, step_, false));
    ObserveTile(pass);
  }
  return absl::OkStatus();
}

absl::Status OutputTask::ReadTile(int64_t first, int64_t count_max,
                                  bool is_hashed) {
  tile_first_ = first;
  tile_count_ = static_cast<size_t>(std::min(count_max, elements_ - first));
  for (size_t i = 0; i < tensors_.size(); ++i) {
    CAIRN_RETURN_IF_ERROR(ReadInput(i, is_hashed));
  }
  return absl::OkStatus();
}

absl::Status OutputTask::ReadInput(size_t i, bool is_hashed) {
  const ModelSource& source = *plan_.sources[output_.inputs[i].source];
  const SourceTensor& tensor = tensors_[i];
  const absl::Span<char> raw =
      RoomIn(scratch_.raw, i, tile_count_ * WidthOf(tensor.spec.dtype));
  if (tensor.is_as_stored()) {
    CAIRN_RETURN_IF_ERROR(source.ReadRaw(tensor, tile_first_, raw));
  } else {
    const absl::Span<float> out = RoomIn(scratch_.inputs, i, tile_count_);
    CAIRN_RETURN_IF_ERROR(
        source.Read(tensor, tile_first_, out, scratch_.raw[i]));
    if (RoundsInputs(tensor)) RoundTo(output_.work_dtype, out);
  }
  if (is_hashed && tensor.stored != nullptr) hashes_[i].Add(raw);
  return absl::OkStatus();
}

bool OutputTask::RoundsInputs(const SourceTensor& tensor) const {
  return output_.work_dtype != DType::kF32 &&
         output_.work_dtype != tensor.spec.dtype;
}

const float* OutputTask::NumbersOf(size_t i, size_t begin, size_t count) {
  const SourceTensor& tensor = tensors_[i];
  if (!tensor.is_as_stored()) return scratch_.inputs[i].data() + begin;
  const size_t width = WidthOf(tensor.spec.dtype);
  const char* raw = scratch_.raw[i].data() + begin * width;
  if (tensor.spec.dtype == DType::kF32 && !RoundsInputs(tensor)) {
    return reinterpret_cast<const float*>(raw);
  }
  const absl::Span<float> out = RoomIn(scratch_.inputs, i, count);
  ToFloats(tensor.spec.dtype, absl::Span<const char>(raw, count * width), out);
  if (RoundsInputs(tensor)) RoundTo(output_.work_dtype, out);
  return out.data();
}

absl::Status OutputTask::ForEachStrip(
    absl::FunctionRef<absl::Status(const InputTile& strip)> use) {
  strip_.inputs.resize(tensors_.size());
  const auto step = static_cast<size_t>(strip_step_);
  for (size_t begin = 0; begin < tile_count_; begin += step) {
    strip_.first = tile_first_ + static_cast<int64_t>(begin);
    strip_.count = std::min(step, tile_count_ - begin);
    for (size_t i = 0; i < tensors_.size(); ++i) {
      strip_.inputs[i] = NumbersOf(i, begin, strip_.count);
    }
    CAIRN_RETURN_IF_ERROR(use(strip_));
  }
  return absl::OkStatus();
}

void OutputTask::ObserveTile(int pass) {
  (void)ForEachStrip([&](const InputTile& strip) {
    method_->Observe(pass, strip);
    return absl::OkStatus();
  });
}

absl::Status OutputTask::CombineTile() {
  CAIRN_RETURN_IF_ERROR(ForEachStrip(
      [&](const InputTile& strip) { return CombineStrip(strip); }));
  next_ += static_cast<int64_t>(tile_count_);
  return absl::OkStatus();
}

absl::Status OutputTask::CombineStrip(const InputTile& strip) {
  std::vector<float>& result = scratch_.result;
  if (result.size() < strip.count) result.resize(strip.count);
  method_->Combine(strip, result.data());
  absl::Span<float> values(result.data(), strip.count);
  if (output_.work_dtype != output_.dtype &&
      output_.work_dtype != DType::kF32) {
    RoundTo(output_.work_dtype, values);
  }
  const size_t width = WidthOf(output_.dtype);
  while (!values.empty()) {
    const absl::Span<char> room = stream_.Room(values.size() * width);
    const size_t count = room.size() / width;
    const absl::Span<char> bytes = room.subspan(0, count * width);
    FromFloats(output_.dtype, values.subspan(0, count), bytes);
    CAIRN_RETURN_IF_ERROR(CheckFinite(bytes));
    stream_.Fill(bytes.size());
    values.remove_prefix(count);
  }
  return absl::OkStatus();
}

absl::Status OutputTask::CombineOnDevice() {
  if (scratch_.queue == nullptr) {
    CAIRN_ASSIGN_OR_RETURN(scratch_.queue, run_.device->OpenQueue());
  }
  TileWork work = {.formula = *method_->Formula(),
                   .inputs = {},
                   .work_dtype = output_.work_dtype,
                   .dtype = output_.dtype};
  for (const SourceTensor& tensor : tensors_) {
    work.inputs.push_back(tensor.slot_dtype());
  }
  return MergeOnDevice(
      *scratch_.queue, work, elements_, cost_.device_tile_elements,
      [&](size_t input, int64_t first, size_t count, absl::Span<char> out) {
        return ReadPacked(input, first, count, out);
      },
      [&](int64_t, absl::Span<const char> packed) -> absl::Status {
        CAIRN_RETURN_IF_ERROR(CheckFinite(packed));
        stream_.Append(packed);
        return stream_.status();
      });
}

absl::Status OutputTask::ReadPacked(size_t i, int64_t first, size_t count,
                                    absl::Span<char> out) {
  CAIRN_RETURN_IF_ERROR(CheckCancelled());
  const ModelSource& source = *plan_.sources[output_.inputs[i].source];
  const SourceTensor& tensor = tensors_[i];
  const auto width = WidthOf(tensor.spec.dtype);
  absl::Span<const char> stored;
  if (tensor.is_as_stored()) {
    const absl::Span<char> bytes = out.subspan(0, count * width);
    CAIRN_RETURN_IF_ERROR(source.ReadRaw(tensor, first, bytes));
    stored = bytes;
  } else {
    const absl::Span<float> numbers(reinterpret_cast<float*>(out.data()),
                                    count);
    const absl::Span<char> raw = RoomIn(scratch_.raw, i, count * width);
    CAIRN_RETURN_IF_ERROR(source.Read(tensor, first, numbers, scratch_.raw[i]));
    stored = raw;
  }
  if (!has_all_ && tensor.stored != nullptr) hashes_[i].Add(stored);
  return absl::OkStatus();
}

absl::Status OutputTask::CheckFinite(absl::Span<const char> bytes) const {
  if (AllFinite(output_.dtype, bytes)) return absl::OkStatus();
  return ReasonedError(absl::StatusCode::kInvalidArgument, "NON_FINITE",
                       absl::StrCat("the result holds a NaN or an infinity as ",
                                    DTypeName(output_.dtype)),
                       {{"tensor", output_.name}});
}

}  // namespace cairn
