// Any bytes as the streams of a coded update within a sound file, so that
// what is behind the header is reached: a byte for the format (its highest
// bit: with a mask, whose two streams come first), two bytes for the length
// of each stream but the last, the streams.
#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/base/digest.h"
#include "core/update/coded_layout.h"
#include "core/update/tensor_table.h"
#include "tests/fuzz/check_update.h"
#include "tests/fuzz/fuzz_input.h"

namespace {

using Streams = std::map<std::string, std::string>;

std::string FileOf(const Streams& streams,
                   const std::map<std::string, std::string>& metadata) {
  std::vector<cairn::TensorSpec> specs;
  for (const auto& [name, bytes] : streams) {
    if (bytes.empty()) continue;
    specs.push_back({.name = name,
                     .dtype = cairn::DType::kU8,
                     .shape = {static_cast<int64_t>(bytes.size())}});
  }
  auto layout = cairn::LayOutSafetensors(specs, metadata);
  CAIRN_CHECK(layout.ok());
  std::string file = layout->header;
  for (const cairn::TensorEntry& entry : layout->tensors) {
    file += streams.at(entry.name);
  }
  return file;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  cairn::testing::FuzzInput input(data, size);
  const uint8_t first = input.Byte();
  const cairn::CodedFormat& format =
      cairn::kCodedFormats[(first & 0x7F) % std::size(cairn::kCodedFormats)];
  std::map<std::string, std::string> metadata = {
      {"cairn.format", format.name},
      {"cairn.version", format.version},
      {"cairn.base", "sha256:" + std::string(64, 'b')}};
  cairn::FileMap files;
  if ((first & 0x80) != 0) {
    Streams mask;
    for (const char* name : {cairn::kTensorTable, cairn::kCodedPositions}) {
      const size_t length = input.Number();
      mask[name] = input.Bytes(length);
    }
    const std::string file =
        FileOf(mask, {{"cairn.format", "mask"}, {"cairn.version", "1"}});
    metadata["cairn.mask"] = "sha256:" + cairn::Digest::Of(file).hex();
    files[cairn::kMaskFile] = cairn::MakeMemorySource(file);
  }
  Streams streams;
  for (const char* name : {cairn::kTensorTable, cairn::kCodedPositions,
                           cairn::kCodedScales, cairn::kCodedFactors}) {
    const size_t length = input.Number();
    streams[name] = input.Bytes(length);
  }
  streams[cairn::kCodedValues] = input.Rest();
  files[cairn::kUpdateFile] =
      cairn::MakeMemorySource(FileOf(streams, metadata));
  cairn::testing::CheckUpdate(files);
  return 0;
}
