#include "core/update/lossless_update.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/json_value.h"
#include "core/base/mutex.h"
#include "core/base/status_macros.h"
#include "core/delta/delta_pack.h"
#include "core/update/replacement_update.h"

namespace cairn {
namespace {

constexpr char kLengths[] = "cairn.lengths";
constexpr char kBlocks[] = "cairn.blocks";
// Where a block stands is kept for every so many.
constexpr int64_t kStride = 64;
static_assert(kLosslessBlock * 4 <= int64_t{kDeltaBlockBytesMax});

int64_t BlocksOf(int64_t elements) {
  return elements / kLosslessBlock + (elements % kLosslessBlock != 0 ? 1 : 0);
}

// A tensor's blocks.
struct CodedBlocks {
  TensorSpec spec;
  int64_t count = 0;
  int64_t lengths_begin = 0;     // in the file, like the next
  std::vector<int64_t> offsets;  // of every kStride-th block
};

// Lengths of blocks [first, first + out.size()).
absl::Status ReadLengths(const ByteSource& file, const CodedBlocks& blocks,
                         int64_t first, absl::Span<uint32_t> out) {
  return file.ReadAt(
      blocks.lengths_begin + 4 * first,
      absl::MakeSpan(reinterpret_cast<char*>(out.data()), 4 * out.size()));
}

// Decoders have some memory that is worth using again.
class DecoderPool {
 public:
  std::unique_ptr<DeltaDecoder> Take() {
    MutexLock lock(mutex_);
    if (free_.empty()) return std::make_unique<DeltaDecoder>();
    auto decoder = std::move(free_.back());
    free_.pop_back();
    return decoder;
  }
  void Return(std::unique_ptr<DeltaDecoder> decoder) {
    MutexLock lock(mutex_);
    free_.push_back(std::move(decoder));
  }

 private:
  Mutex mutex_;
  std::vector<std::unique_ptr<DeltaDecoder>> free_ ABSL_GUARDED_BY(mutex_);
};

class LosslessUpdate : public ReplacementUpdate {
 public:
  LosslessUpdate(SharedSource file, std::vector<TouchedTensor> touched,
                 std::vector<CodedBlocks> tensors, std::string base_digest)
      : ReplacementUpdate(std::move(file), std::move(touched),
                          std::move(base_digest)),
        tensors_(std::move(tensors)) {}

  v1::Encoding::Kind encoding() const override { return v1::Encoding::DENSE; }

  // Values are known only beside the base's: who reads them looks.
  absl::Status CheckFinite() const override { return absl::OkStatus(); }

 private:
  absl::Status ReadRange(size_t index, const ByteSource& base, int64_t first,
                         absl::Span<char> bytes) const override {
    const CodedBlocks& tensor = tensors_[index];
    const int64_t width = DTypeBits(tensor.spec.dtype) / 8;
    const int64_t end = first + static_cast<int64_t>(bytes.size()) / width;
    auto decoder = decoders_.Take();
    std::string coded;
    std::vector<char> before, after;
    absl::Status status;
    while (first < end && status.ok()) {
      const int64_t block = first / kLosslessBlock;
      const int64_t begin = block * kLosslessBlock;
      const int64_t count =
          std::min(kLosslessBlock, tensor.spec.elements() - begin);
      before.resize(static_cast<size_t>(count * width));
      after.resize(before.size());
      status = DecodeBlock(tensor, base, block, coded, *decoder,
                           absl::MakeSpan(before), absl::MakeSpan(after));
      const int64_t until = std::min(end, begin + count);
      const auto length = static_cast<size_t>((until - first) * width);
      std::memcpy(bytes.data(), after.data() + (first - begin) * width, length);
      bytes.remove_prefix(length);
      first = until;
    }
    decoders_.Return(std::move(decoder));
    return status;
  }

  absl::Status DecodeBlock(const CodedBlocks& tensor, const ByteSource& base,
                           int64_t block, std::string& coded,
                           DeltaDecoder& decoder, absl::Span<char> before,
                           absl::Span<char> after) const {
    std::vector<uint32_t> lengths(static_cast<size_t>(block % kStride) + 1);
    CAIRN_RETURN_IF_ERROR(ReadLengths(file(), tensor, block - block % kStride,
                                      absl::MakeSpan(lengths)));
    int64_t offset = tensor.offsets[static_cast<size_t>(block / kStride)];
    for (size_t i = 0; i + 1 < lengths.size(); ++i) offset += lengths[i];
    if (lengths.back() > DeltaCodedBytesMax(after.size())) {
      return absl::DataLossError(
          absl::StrCat(kUpdateFile, " changed while it was read"));
    }
    coded.resize(lengths.back());
    CAIRN_RETURN_IF_ERROR(
        file().ReadAt(offset, absl::MakeSpan(&coded[0], coded.size())));
    const int64_t width = DTypeBits(tensor.spec.dtype) / 8;
    CAIRN_RETURN_IF_ERROR(base.ReadAt(block * kLosslessBlock * width, before));
    const absl::Status decoded =
        decoder.Decode(coded, before, FormOf(tensor.spec.dtype), after);
    if (decoded.ok()) return decoded;
    return MalformedTensor(tensor.spec.name,
                           absl::StrCat(decoded.message(), " (block ", block,
                                        " of ", tensor.count, ")"));
  }

  const std::vector<CodedBlocks> tensors_;  // in the order of touched()
  mutable DecoderPool decoders_;
};

// Checks the lengths of a tensor's blocks and notes where they stand.
absl::Status ScanLengths(const ByteSource& file, int64_t blocks_end,
                         int64_t& at, CodedBlocks& tensor) {
  const int64_t width = DTypeBits(tensor.spec.dtype) / 8;
  std::vector<uint32_t> lengths;
  for (int64_t first = 0; first < tensor.count; first += kStride) {
    lengths.resize(
        static_cast<size_t>(std::min(kStride, tensor.count - first)));
    CAIRN_RETURN_IF_ERROR(
        ReadLengths(file, tensor, first, absl::MakeSpan(lengths)));
    tensor.offsets.push_back(at);
    for (size_t i = 0; i < lengths.size(); ++i) {
      const int64_t begin = (first + static_cast<int64_t>(i)) * kLosslessBlock;
      const int64_t elements =
          std::min(kLosslessBlock, tensor.spec.elements() - begin);
      const size_t most =
          DeltaCodedBytesMax(static_cast<size_t>(elements * width));
      if (lengths[i] == 0 || lengths[i] > most ||
          lengths[i] > blocks_end - at) {
        return MalformedTensor(
            tensor.spec.name,
            absl::StrCat("has a block of ", lengths[i],
                         " bytes, which is none or more than ", kBlocks,
                         " holds"));
      }
      at += lengths[i];
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<CodedBlocks>> ReadBlocks(
    const ByteSource& file, const SafetensorsHeader& header) {
  CAIRN_ASSIGN_OR_RETURN(const TensorEntry table,
                         FindByteString(header, kTensorTable));
  CAIRN_ASSIGN_OR_RETURN(const TensorEntry lengths,
                         FindByteString(header, kLengths));
  CAIRN_ASSIGN_OR_RETURN(const TensorEntry blocks,
                         FindByteString(header, kBlocks));
  CAIRN_ASSIGN_OR_RETURN(const std::string text, ReadTensorTable(file, table));
  TensorTableReader reader(text);
  std::vector<CodedBlocks> out;
  int64_t lengths_at = lengths.begin;
  int64_t blocks_at = blocks.begin;
  while (!reader.done()) {
    CodedBlocks& tensor = out.emplace_back();
    CAIRN_ASSIGN_OR_RETURN(tensor.spec, reader.NextTensor());
    tensor.count = BlocksOf(tensor.spec.elements());
    tensor.lengths_begin = lengths_at;
    if (tensor.count == 0 || tensor.count > (lengths.end - lengths_at) / 4) {
      return MalformedTensor(
          tensor.spec.name, absl::StrCat("has ", tensor.count,
                                         " blocks, which is none or more than ",
                                         kLengths, " holds"));
    }
    lengths_at += 4 * tensor.count;
    CAIRN_RETURN_IF_ERROR(ScanLengths(file, blocks.end, blocks_at, tensor));
  }
  if (out.empty()) return MalformedTensor(kTensorTable, "names no tensor");
  for (const auto& [part, at] :
       {std::pair(lengths, lengths_at), std::pair(blocks, blocks_at)}) {
    if (at == part.end) continue;
    return MalformedTensor(
        part.name, absl::StrCat("has ", part.end - part.begin,
                                " bytes, but the tensors in ", kTensorTable,
                                " take ", at - part.begin));
  }
  return out;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Update>> OpenLosslessUpdate(
    SharedSource file, const SafetensorsHeader& header) {
  for (const TensorEntry& entry : header.tensors()) {
    if (entry.name != kTensorTable && entry.name != kLengths &&
        entry.name != kBlocks) {
      return MalformedTensor(entry.name,
                             "does not belong in this kind of update");
    }
  }
  CAIRN_ASSIGN_OR_RETURN(std::vector<CodedBlocks> tensors,
                         ReadBlocks(*file, header));
  std::vector<TouchedTensor> touched;
  for (const CodedBlocks& tensor : tensors) {
    touched.push_back({.name = tensor.spec.name,
                       .shape = tensor.spec.shape,
                       .dtype = tensor.spec.dtype});
  }
  return std::make_unique<LosslessUpdate>(std::move(file), std::move(touched),
                                          std::move(tensors),
                                          header.metadata().at("cairn.base"));
}

absl::StatusOr<std::unique_ptr<LosslessUpdateWriter>>
LosslessUpdateWriter::Create(std::string path, std::string base_digest) {
  std::unique_ptr<LosslessUpdateWriter> writer(
      new LosslessUpdateWriter(std::move(path), std::move(base_digest)));
  CAIRN_ASSIGN_OR_RETURN(writer->lengths_,
                         ScratchFile::Create(writer->path_ + ".lengths"));
  CAIRN_ASSIGN_OR_RETURN(writer->blocks_,
                         ScratchFile::Create(writer->path_ + ".blocks"));
  return writer;
}

absl::Status LosslessUpdateWriter::BeginTensor(const TensorSpec& tensor) {
  if (left_ != 0 || tensor.name <= table_.last_name() ||
      tensor.name <= tensor_.name || tensor.elements() == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor ", JsonQuote(tensor.name),
                     " must have elements and come after a whole ",
                     JsonQuote(tensor_.name)));
  }
  CAIRN_RETURN_IF_ERROR(CheckReplaceable(tensor.name, tensor.dtype));
  CAIRN_RETURN_IF_ERROR(EndTensor());
  tensor_ = tensor;
  left_ = tensor.elements();
  return absl::OkStatus();
}

absl::Status LosslessUpdateWriter::EndTensor() {
  if (left_ != 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "tensor ", JsonQuote(tensor_.name), " has not all of its blocks"));
  }
  if (!tensor_.name.empty()) table_.AddTensor(tensor_);
  tensor_ = {};
  return absl::OkStatus();
}

absl::Status LosslessUpdateWriter::Take(LosslessUpdateWriter& part) {
  CAIRN_RETURN_IF_ERROR(EndTensor());
  if (part.left_ != 0 || part.tensor_.name <= table_.last_name()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor ", JsonQuote(part.tensor_.name),
        " must be whole and come after ", JsonQuote(table_.last_name())));
  }
  table_.AddTensor(part.tensor_);
  part.tensor_ = {};
  CAIRN_RETURN_IF_ERROR(part.lengths_->MoveTo(*lengths_));
  return part.blocks_->MoveTo(*blocks_);
}

absl::Status LosslessUpdateWriter::AddBlock(absl::Span<const char> base,
                                            absl::Span<const char> tuned) {
  const int64_t width = DTypeBits(tensor_.dtype) / 8;
  const int64_t count = std::min(left_, kLosslessBlock);
  if (static_cast<int64_t>(tuned.size()) != count * width ||
      base.size() != tuned.size() || count == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a block of ", tuned.size(), " bytes; ", count * width, " come next"));
  }
  left_ -= count;
  coded_.clear();
  encoder_.Encode(base, tuned, FormOf(tensor_.dtype), coded_);
  const auto length = static_cast<uint32_t>(coded_.size());
  CAIRN_RETURN_IF_ERROR(lengths_->Append(
      absl::string_view(reinterpret_cast<const char*>(&length), 4)));
  return blocks_->Append(coded_);
}

absl::Status LosslessUpdateWriter::Finish() && {
  CAIRN_RETURN_IF_ERROR(EndTensor());
  if (table_.bytes().empty()) {
    return absl::FailedPreconditionError("nothing is changed");
  }
  return WriteCodedFile(path_, table_,
                        {{kLengths, lengths_.get()}, {kBlocks, blocks_.get()}},
                        {{"cairn.format", "dense"},
                         {"cairn.version", "2"},
                         {"cairn.base", base_digest_}});
}

}  // namespace cairn
