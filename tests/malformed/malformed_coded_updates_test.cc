// Broken updates of the coded formats: each is refused with its exact code and
// reason, in a message that names what is wrong.
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/base/digest.h"
#include "core/codec/position_codec.h"
#include "core/tensor/safetensors.h"
#include "core/update/update.h"
#include "core/update/varint.h"
#include "tests/malformed/refusal_table.h"

namespace cairn {
namespace {

constexpr char kMalformed[] = "MALFORMED_FILE";

// The byte strings of an update; those that are empty are left out.
struct Streams {
  std::string table;
  std::string positions = {};
  std::string values = {};
  std::string scales = {};
  std::string factors = {};
  std::string other = {};
};

absl::Status Coded(const Streams& streams, const std::string& format = "sparse",
                   const std::string& version = "2") {
  std::map<std::string, const std::string*> named = {
      {"cairn.tensors", &streams.table},
      {"cairn.positions", &streams.positions},
      {"cairn.values", &streams.values},
      {"cairn.scales", &streams.scales},
      {"cairn.factors", &streams.factors},
      {"cairn.other", &streams.other}};
  std::vector<TensorSpec> specs;
  for (const auto& [name, bytes] : named) {
    if (bytes->empty() && name != "cairn.tensors") continue;
    specs.push_back({.name = name,
                     .dtype = DType::kU8,
                     .shape = {static_cast<int64_t>(bytes->size())}});
  }
  auto layout = LayOutSafetensors(
      specs, {{"cairn.format", format},
              {"cairn.version", version},
              {"cairn.base", "sha256:" + std::string(64, 'a')}});
  std::string file = layout->header;
  for (const TensorEntry& entry : layout->tensors) file += *named[entry.name];
  return OpenUpdate({{kUpdateFile, MakeMemorySource(file)}}).status();
}

std::string Varints(const std::vector<uint64_t>& numbers) {
  std::string out;
  for (const uint64_t number : numbers) AppendVarint(number, out);
  return out;
}

// A record of the table: a tensor and the numbers of its parts.
std::string Record(const std::string& name, const std::vector<uint64_t>& shape,
                   const std::vector<uint64_t>& parts,
                   const std::string& dtype = "BF16") {
  std::string out = Varints({0, name.size()}) + name;
  out += Varints({dtype.size()}) + dtype;
  return out + Varints({shape.size()}) + Varints(shape) + Varints(parts);
}

// Blocks of positions, each after its length.
std::string Positions(const std::vector<int64_t>& all) {
  std::string coded, out;
  PositionEncoder().Encode(-1, all, coded);
  AppendVarint(coded.size(), out);
  return out + coded;
}

// Kinds of parts and forms of values, as the table has them.
enum : uint64_t { kProduct = 1, kAll = 2, kListed = 3 };
enum : uint64_t {
  kF32 = 0,
  kBF16 = 2,
  kInt8 = 3,
  kInt4 = 4,
  kSign = 5,
  kReplacement = 6
};

const std::string kPositions = Positions({1, 3});

// Two of four elements of "w" change, to values of two bytes.
Streams Listed(std::vector<uint64_t> parts = {}) {
  if (parts.empty()) {
    parts = {1, kListed, 2, kPositions.size(), kReplacement};
  }
  return {.table = Record("w", {4}, parts),
          .positions = kPositions,
          .values = "vvvv"};
}

Streams With(Streams streams, std::string Streams::*stream,
             const std::string& bytes) {
  streams.*stream = bytes;
  return streams;
}

TEST(MalformedCodedUpdateTest, StreamsAndParts) {
  ASSERT_TRUE(Coded(Listed()).ok()) << Coded(Listed());
  const uint64_t bytes = kPositions.size();
  ExpectRefusals({
      {"an empty table", Coded({.table = ""}), kMalformed, {"names no tensor"}},
      {"a stream too many",
       Coded(With(Listed(), &Streams::other, "x")),
       kMalformed,
       {"\"cairn.other\" does not belong"}},
      {"a stream that no tensor takes",
       Coded(With(Listed(), &Streams::scales, "xxxx")),
       kMalformed,
       {"cairn.scales", "has 4 bytes", "take 0"}},
      {"values left over",
       Coded(With(Listed(), &Streams::values, "vvvvv")),
       kMalformed,
       {"cairn.values", "has 5 bytes", "take 4"}},
      {"no values",
       Coded(With(Listed(), &Streams::values, "")),
       kMalformed,
       {"more than the file holds"}},
      {"no parts", Coded(Listed({0})), kMalformed, {"has 0 parts"}},
      {"five parts", Coded(Listed({5})), kMalformed, {"has 5 parts"}},
      {"a part of no kind",
       Coded(Listed({1, 5})),
       kMalformed,
       {"kind 5 after kind 0"}},
      {"one part twice",
       Coded(Listed({2, kListed, 2, bytes, kBF16, kListed, 2, bytes, kBF16})),
       kMalformed,
       {"kind 3 after kind 3"}},
      {"values of no form",
       Coded(Listed({1, kListed, 2, bytes, 7})),
       kMalformed,
       {"form 7"}},
      {"a table that ends in a part",
       Coded(Listed({1, kListed, 2})),
       kMalformed,
       {"cut short", "length of positions"}},
      {"replacement of everything",
       Coded({.table = Record("w", {4}, {1, kAll, kReplacement}),
              .values = "vvvvvvvv"}),
       kMalformed,
       {"not a list of their own"}},
      {"replacement in an update that is none",
       Coded(Listed(), "ternary", "1"),
       kMalformed,
       {"which only sparse updates have"}},
      {"replacement beside differences",
       Coded({.table = Record("a", {2}, {1, kAll, kSign, 0}) +
                       Record("w", {4}, {1, kListed, 2, bytes, kReplacement}),
              .positions = kPositions,
              .values = "svvvv",
              .scales = "ssss"}),
       kMalformed,
       {"\"w\" mixes"}},
  });
}

TEST(MalformedCodedUpdateTest, CountsAndLengths) {
  const uint64_t bytes = kPositions.size();
  const uint64_t most = uint64_t{1} << 62;
  const auto all = [](std::vector<uint64_t> shape, std::vector<uint64_t> parts,
                      const std::string& values, const std::string& scales) {
    return Coded({.table = Record("w", shape, parts),
                  .values = values,
                  .scales = scales},
                 "int8", "1");
  };
  ASSERT_TRUE(all({3}, {1, kAll, kInt8, 2}, "vvv", "scalscal").ok());
  ASSERT_TRUE(all({3}, {1, kAll, kInt4, 0}, "vv", "scal").ok());
  ExpectRefusals({
      {"no changes",
       Coded(Listed({1, kListed, 0, bytes, kReplacement})),
       kMalformed,
       {"has 0 changes"}},
      {"more changes than elements",
       Coded(Listed({1, kListed, 5, bytes, kReplacement})),
       kMalformed,
       {"5 changes but 4"}},
      {"no elements",
       all({0}, {1, kAll, kInt8, 2}, "", ""),
       kMalformed,
       {"no elements"}},
      {"no elements, whose other dimensions overflow",
       all({0, most, most}, {1, kProduct, 1, kF32}, "", ""),
       kMalformed,
       {"no elements"}},
      {"a tensor as large as any",
       all({most / 16}, {1, kAll, kF32}, "vvv", ""),
       kMalformed,
       {"more than the file holds"}},
      {"as many changes",
       Coded({.table = Record("w", {most / 16},
                              {1, kListed, most / 16, bytes, kSign, 1}),
              .positions = kPositions,
              .values = "v",
              .scales = "scal"}),
       kMalformed,
       {"more than the file holds"}},
      {"too few scales",
       all({3}, {1, kAll, kInt8, 1}, "vvv", "scal"),
       kMalformed,
       {"more than the file holds"}},
      {"a nibble too few",
       all({3}, {1, kAll, kInt4, 0}, "v", "scal"),
       kMalformed,
       {"more than the file holds"}},
  });
}

TEST(MalformedCodedUpdateTest, PositionsOfBlocks) {
  const auto positions = [](const std::string& bytes, uint64_t count = 2,
                            uint64_t elements = 4) {
    return Coded({.table = Record("w", {elements},
                                  {1, kListed, count, bytes.size(), kSign, 0}),
                  .positions = bytes,
                  .values = std::string((count + 7) / 8, 'v'),
                  .scales = "scal"},
                 "ternary", "1");
  };
  ASSERT_TRUE(positions(kPositions).ok()) << positions(kPositions);
  std::string cut = kPositions;
  cut.pop_back();
  ExpectRefusals({
      {"cut short", positions(cut), kMalformed, {"no whole block", "0 of 2"}},
      {"an empty block",
       positions(std::string(1, '\0')),
       kMalformed,
       {"no whole block"}},
      {"a block longer than any",
       positions(Varints({kPositionBytesMax + 1}) +
                 std::string(kPositionBytesMax + 1, 'x')),
       kMalformed,
       {"no whole block"}},
      {"a block too many",
       positions(kPositions + kPositions),
       kMalformed,
       {"bytes of positions more"}},
      {"past the tensor's end",
       positions(Positions({1, 4})),
       kMalformed,
       {"past the last, 3"}},
      {"fewer than there are",
       positions(kPositions, 3),
       kMalformed,
       {"coded positions"}},
      {"a method that there is not",
       positions(Varints({2}) + "\xfe\x01"),
       kMalformed,
       {"method 254"}},
      {"a model that there is not",
       positions(Varints({50}) + std::string(50, '\x7f')),
       kMalformed,
       {"method 127"}},
      {"a block of rANS without states",
       positions(Varints({5}) + std::string("\x08\0\0\0\0", 5)),
       kMalformed,
       {"cut short"}},
      {"states that are none",
       positions(Varints({37}) + std::string("\x08\0\0\0\0", 5) +
                 std::string(32, '\0')),
       kMalformed,
       {"states"}},
      {"more skips than positions",
       positions(Varints({37}) + std::string("\x08\x03\0\0\0", 5) +
                 std::string(32, '\1')),
       kMalformed,
       {"parts do not fit"}},
      {"raw bits past the block",
       positions(Varints({37}) + std::string("\x08\0\0\xff\xff", 5) +
                 std::string(32, '\1')),
       kMalformed,
       {"parts do not fit"}},
      {"a table that has no end",
       positions(Varints({60}) + std::string("\xff\0\0\0\0", 5) +
                 std::string(55, '\0')),
       kMalformed,
       {"table"}},
  });
}

TEST(MalformedCodedUpdateTest, Factors) {
  const auto product = [](std::vector<uint64_t> shape,
                          std::vector<uint64_t> parts,
                          const std::string& factors) {
    return Coded({.table = Record("w", shape, parts), .factors = factors},
                 "low-rank", "1");
  };
  const std::string whole(2 * (3 + 4) * 2, 'f');
  ASSERT_TRUE(product({3, 4}, {1, kProduct, 2, kBF16}, whole).ok())
      << product({3, 4}, {1, kProduct, 2, kBF16}, whole);
  ExpectRefusals({
      {"of a vector",
       product({12}, {1, kProduct, 1, kBF16}, whole),
       kMalformed,
       {"[12]", "rank 1"}},
      {"of rank 0",
       product({3, 4}, {1, kProduct, 0, kBF16}, whole),
       kMalformed,
       {"rank 0"}},
      {"of a rank above the matrix's",
       product({3, 4}, {1, kProduct, 4, kBF16}, whole),
       kMalformed,
       {"rank 4"}},
      {"of integers",
       product({3, 4}, {1, kProduct, 2, kInt8, 0}, whole),
       kMalformed,
       {"form int8"}},
      {"of replacement values",
       product({3, 4}, {1, kProduct, 2, kReplacement}, whole),
       kMalformed,
       {"form replacement"}},
      {"cut short",
       product({3, 4}, {1, kProduct, 2, kBF16}, whole.substr(1)),
       kMalformed,
       {"more than cairn.factors holds"}},
      {"left over",
       product({3, 4}, {1, kProduct, 2, kBF16}, whole + "f"),
       kMalformed,
       {"cairn.factors", "has 29 bytes"}},
      {"of a matrix as large as any",
       product({1ULL << 30, 1ULL << 28}, {1, kProduct, 1ULL << 28, kF32},
               whole),
       kMalformed,
       {"more than cairn.factors holds"}},
  });
}

// A file of byte strings, those that are empty too.
std::string FileOf(const std::map<std::string, std::string>& streams,
                   const std::map<std::string, std::string>& metadata) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, bytes] : streams) {
    specs.push_back({.name = name,
                     .dtype = DType::kU8,
                     .shape = {static_cast<int64_t>(bytes.size())}});
  }
  auto layout = LayOutSafetensors(specs, metadata);
  std::string file = layout->header;
  for (const TensorEntry& entry : layout->tensors) {
    file += streams.at(entry.name);
  }
  return file;
}

// A mask of elements 1 and 3 of "w", or of other streams.
std::string Mask(const std::string& table, const std::string& positions,
                 const std::string& version = "1") {
  return FileOf({{"cairn.tensors", table}, {"cairn.positions", positions}},
                {{"cairn.format", "mask"}, {"cairn.version", version}});
}
std::string MaskRecord(uint64_t count, uint64_t bytes) {
  return Record("w", {4}, {count, bytes});
}

// An update of two values for a mask.
absl::Status Masked(const std::string& mask, const std::string& parts_of = "w",
                    const std::vector<uint64_t>& shape = {4},
                    const std::string& digest = "") {
  const std::map<std::string, std::string> metadata = {
      {"cairn.format", "sparse"},
      {"cairn.version", "2"},
      {"cairn.base", "sha256:" + std::string(64, 'a')},
      {"cairn.mask",
       digest.empty() ? "sha256:" + Digest::Of(mask).hex() : digest}};
  const std::string file =
      FileOf({{"cairn.tensors", Record(parts_of, shape, {1, 4, kBF16})},
              {"cairn.values", "vvvv"}},
             metadata);
  FileMap files = {{kUpdateFile, MakeMemorySource(file)}};
  if (!mask.empty()) files[kMaskFile] = MakeMemorySource(mask);
  return OpenUpdate(files).status();
}

TEST(MalformedCodedUpdateTest, Masks) {
  const uint64_t bytes = kPositions.size();
  const std::string good = Mask(MaskRecord(2, bytes), kPositions);
  ASSERT_TRUE(Masked(good).ok()) << Masked(good);
  ExpectRefusals({
      {"no mask", Masked(""), kMalformed, {"is not beside it"}},
      {"another mask",
       Masked(good, "w", {4}, "sha256:" + std::string(64, '0')),
       kMalformed,
       {"cairn-mask.safetensors is sha256:"}},
      {"a mask that no one names",
       OpenUpdate({{kUpdateFile,
                    MakeMemorySource(FileOf(
                        {{"w", "vvvv"}},
                        {{"cairn.format", "dense"},
                         {"cairn.version", "1"},
                         {"cairn.base", "sha256:" + std::string(64, 'a')}}))},
                   {kMaskFile, MakeMemorySource(good)}})
           .status(),
       kMalformed,
       {"does not name it"}},
      {"a mask alone",
       OpenUpdate({{kMaskFile, MakeMemorySource(good)}}).status(),
       "UNKNOWN_FORMAT",
       {"without cairn-update.safetensors"}},
      {"values for no mask",
       Coded({.table = Record("w", {4}, {1, 4, kBF16}), .values = "vvvv"}),
       kMalformed,
       {"cairn.mask names none"}},
      {"a tensor that the mask has not",
       Masked(good, "v"),
       kMalformed,
       {"none of that tensor"}},
      {"another shape",
       Masked(good, "w", {2, 2}),
       kMalformed,
       {"[2, 2]", "[4]"}},
  });
}

TEST(MalformedCodedUpdateTest, MasksThemselves) {
  const uint64_t bytes = kPositions.size();
  ExpectRefusals({
      {"another format",
       Masked(Mask(MaskRecord(2, bytes), kPositions, "2")),
       "UNKNOWN_FORMAT",
       {"cairn-mask.safetensors"}},
      {"no positions",
       Masked(FileOf({{"cairn.tensors", MaskRecord(2, bytes)}},
                     {{"cairn.format", "mask"}, {"cairn.version", "1"}})),
       kMalformed,
       {"cairn-mask.safetensors", "cairn.positions"}},
      {"company",
       Masked(FileOf({{"cairn.tensors", MaskRecord(2, bytes)},
                      {"cairn.positions", kPositions},
                      {"x", "x"}},
                     {{"cairn.format", "mask"}, {"cairn.version", "1"}})),
       kMalformed,
       {"does not belong"}},
      {"more than the tensor has",
       Masked(Mask(MaskRecord(5, bytes), kPositions)),
       kMalformed,
       {"lists 5 of 4"}},
      {"longer than the file",
       Masked(Mask(MaskRecord(2, bytes + 1), kPositions)),
       kMalformed,
       {"lists 2 of 4"}},
      {"positions left over",
       Masked(Mask(MaskRecord(2, bytes), kPositions + "x")),
       kMalformed,
       {"cairn-mask.safetensors", "take"}},
      {"a broken block",
       Masked(Mask(MaskRecord(2, 3), Varints({2}) + "\xfe\x01")),
       kMalformed,
       {"cairn-mask.safetensors", "method 254"}},
  });
}

TEST(MalformedCodedUpdateTest, LosslessTensors) {
  const std::map<std::string, std::string> metadata = {
      {"cairn.format", "dense"},
      {"cairn.version", "2"},
      {"cairn.base", "sha256:" + std::string(64, 'a')}};
  const auto open = [&](const std::string& table, const std::string& lengths,
                        const std::string& blocks) {
    return OpenUpdate(
        {{kUpdateFile, MakeMemorySource(FileOf({{"cairn.tensors", table},
                                                {"cairn.lengths", lengths},
                                                {"cairn.blocks", blocks}},
                                               metadata))}});
  };
  const std::string table = Record("w", {4}, {});
  const std::string one("\1\0\0\0", 4);
  ASSERT_TRUE(open(table, one, std::string(1, '\0')).ok());
  ExpectRefusals({
      {"no tensors",
       open("", "", "").status(),
       kMalformed,
       {"names no tensor"}},
      {"no elements",
       open(Record("w", {0}, {}), "", "").status(),
       kMalformed,
       {"has 0 blocks"}},
      {"more blocks than lengths",
       open(Record("w", {1ULL << 58}, {}), one, "x").status(),
       kMalformed,
       {"more than cairn.lengths holds"}},
      {"an empty block",
       open(table, std::string(4, '\0'), "").status(),
       kMalformed,
       {"a block of 0 bytes"}},
      {"a block longer than the file",
       open(table, std::string("\2\0\0\0", 4), "x").status(),
       kMalformed,
       {"more than cairn.blocks holds"}},
      {"a block longer than any",
       open(table, std::string("\xff\xff\xff\x7f", 4), "x").status(),
       kMalformed,
       {"more than cairn.blocks holds"}},
      {"lengths left over",
       open(table, one + one, "x").status(),
       kMalformed,
       {"cairn.lengths", "take 4"}},
      {"blocks left over",
       open(table, one, "xx").status(),
       kMalformed,
       {"cairn.blocks", "take 1"}},
  });
  // What is coded is looked at beside its base.
  auto broken = open(table, one, "\x09");
  ASSERT_TRUE(broken.ok());
  std::string bytes(8, '\0');
  ExpectRefusals({{"a method that there is not",
                   (*broken)->ReadTuned("w", *MakeMemorySource(bytes), 0,
                                        absl::MakeSpan(&bytes[0], 8)),
                   kMalformed,
                   {"\"w\"", "method 9", "block 0 of 1"}}});
}

}  // namespace
}  // namespace cairn
