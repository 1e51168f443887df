// Broken adapters, Cairn updates and manifests: each is refused with its exact
// code and reason, in a message that names what is wrong.
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/tensor/safetensors.h"
#include "core/update/base_model.h"
#include "core/update/manifest.h"
#include "core/update/testing/f32_base.h"
#include "core/update/update.h"
#include "core/update/varint.h"
#include "tests/malformed/refusal_table.h"

namespace cairn {
namespace {

constexpr char kMalformed[] = "MALFORMED_FILE";
constexpr char kUnsupported[] = "UNSUPPORTED";

// A LoRA of one module with any weights file.
absl::Status Adapter(const std::string& weights,
                     const std::string& fields = ",\"r\":2") {
  return OpenUpdate(
             {{"adapter_config.json",
               MakeMemorySource("{\"peft_type\":\"LORA\"" + fields + "}")},
              {"adapter_model.safetensors", MakeMemorySource(weights)}})
      .status();
}

// A file of tensors, filled with ones.
std::string Tensors(const std::vector<TensorSpec>& specs,
                    const std::map<std::string, std::string>& metadata = {}) {
  auto layout = LayOutSafetensors(specs, metadata);
  EXPECT_TRUE(layout.ok()) << layout.status();
  return layout->header + std::string(static_cast<size_t>(layout->file_bytes) -
                                          layout->header.size(),
                                      '\1');
}

TensorSpec Spec(const std::string& name, std::vector<int64_t> shape,
                DType dtype = DType::kF32) {
  return {.name = name, .dtype = dtype, .shape = std::move(shape)};
}

TensorSpec Factor(const std::string& key, std::vector<int64_t> shape,
                  DType dtype = DType::kF32) {
  return Spec("base_model.model.m.q." + key, std::move(shape), dtype);
}

TEST(MalformedUpdateTest, AdaptersThatAreNotWhole) {
  const TensorSpec a = Factor("lora_A.weight", {2, 3});
  const TensorSpec b = Factor("lora_B.weight", {4, 2});
  ASSERT_TRUE(Adapter(Tensors({a, b})).ok()) << Adapter(Tensors({a, b}));
  const std::string whole = Tensors({a, b});
  ExpectRefusals({
      {"no files",
       OpenUpdate(FileMap()).status(),
       "UNKNOWN_FORMAT",
       {"adapter_config.json", "cairn-update"}},
      {"no weights",
       OpenUpdate({{"adapter_config.json", MakeMemorySource("{}")}}).status(),
       kMalformed,
       {"adapter_model.safetensors: is missing"}},
      {"no config",
       OpenUpdate({{"adapter_model.safetensors", MakeMemorySource(whole)}})
           .status(),
       kMalformed,
       {"adapter_config.json: is missing"}},
      {"both formats",
       OpenUpdate({{"adapter_config.json", MakeMemorySource("{}")},
                   {"cairn-update.safetensors", MakeMemorySource("")}})
           .status(),
       "UNKNOWN_FORMAT",
       {"both"}},
      {"truncated weights",
       Adapter(whole.substr(0, whole.size() - 1)),
       kMalformed,
       {"adapter_model.safetensors", "lora_B"}},
      {"no tensors", Adapter(Tensors({})), kMalformed, {"has no tensors"}},
      {"half a pair",
       Adapter(Tensors({a})),
       kMalformed,
       {"lora_A.weight", "has no partner", "lora_B.weight"}},
      {"key without prefix",
       Adapter(Tensors({Spec("m.q.lora_A.weight", {2, 3})})),
       kMalformed,
       {"base_model.model."}},
  });
}

// A base of one module with a bias, and a vocabulary.
v1::TensorManifest Base() {
  return testing::F32Base({{"m.q.bias", {4}},
                           {"m.q.weight", {4, 3}},
                           {"model.embed_tokens.weight", {6, 3}}});
}

absl::Status OnBase(const std::string& config, const std::string& weights,
                    const char* base_config = "{}") {
  const v1::TensorManifest tensors = Base();
  const BaseModel base = {.tensors = &tensors, .config_json = base_config};
  return OpenUpdate({{"adapter_config.json", MakeMemorySource(config)},
                     {"adapter_model.safetensors", MakeMemorySource(weights)}},
                    &base)
      .status();
}

TEST(MalformedUpdateTest, TensorsThatHaveNoPlace) {
  const TensorSpec a = Factor("lora_A.weight", {2, 3});
  const TensorSpec b = Factor("lora_B.weight", {4, 2});
  ExpectRefusals({
      {"half an embedding",
       Adapter(Tensors({Factor("lora_embedding_A", {2, 3})})),
       kMalformed,
       {"lora_embedding_A", "has no partner"}},
      {"magnitude",
       Adapter(Tensors({a, b, Factor("lora_magnitude_vector", {4})})),
       kUnsupported,
       {"DoRA", "use_dora"}},
      {"DoRA without magnitudes",
       Adapter(Tensors({a, b}), R"(,"r":2,"use_dora":true)"),
       "SHAPE_MISMATCH",
       {"lora_magnitude_vector of 4"}},
      {"factor bias",
       Adapter(Tensors({a, b, Factor("lora_B.bias", {4})})),
       kUnsupported,
       {"LoRA bias", "lora_bias"}},
      {"IA3",
       Adapter(Tensors({Factor("ia3_l", {4, 1})})),
       kUnsupported,
       {"IA3"}},
      {"half of SHiRA",
       Adapter(Tensors({Factor("shira_weight", {4})})),
       kMalformed,
       {"shira_indices"}},
      {"module that the base has not",
       OnBase(R"({"peft_type":"LORA","r":2})",
              Tensors({Spec("base_model.model.m.k.lora_A.weight", {2, 3}),
                       Spec("base_model.model.m.k.lora_B.weight", {4, 2})})),
       "UNKNOWN_TENSOR",
       {"m.k.weight", "nearest are \"m.q.weight\""}},
      {"whole tensor of another shape",
       OnBase(R"({"peft_type":"LORA"})", Tensors({Factor("weight", {4, 2})})),
       "SHAPE_MISMATCH",
       {"[4, 2]", "[4, 3]"}},
      {"factors for the wrong axis",
       OnBase(R"({"peft_type":"IA3"})", Tensors({Factor("ia3_l", {1, 3})})),
       "SHAPE_MISMATCH",
       {"3 factors for axis 0"}},
      {"tokens past the vocabulary",
       OnBase(R"({"peft_type":"LORA","trainable_token_indices":[6]})",
              Tensors({Spec("base_model.model.model.embed_tokens.token_adapter."
                            "trainable_tokens_delta",
                            {1, 3})})),
       "SHAPE_MISMATCH",
       {"trainable_token_indices"}},
      {"positions past the matrix",
       OnBase(R"({"peft_type":"SHIRA"})",
              Tensors({Factor("shira_weight", {1}),
                       Factor("shira_indices", {2, 1}, DType::kI32)})),
       kMalformed,
       {"shira_indices", "4 rows and 3 columns"}},
  });
}

TEST(MalformedUpdateTest, WhatAReleaseCannotHold) {
  const std::string key = "base_model.model.model.embed_tokens.weight";
  ExpectRefusals({
      {"a larger vocabulary",
       OnBase(R"({"peft_type":"LORA"})", Tensors({Spec(key, {7, 3})})),
       kUnsupported,
       {"7 rows", "has 6", "cairn merge"}},
      {"a head of its own",
       OnBase(R"({"peft_type":"LORA"})",
              Tensors({Spec("base_model.model.lm_head.weight", {6, 3})})),
       kUnsupported,
       {"head of its own"}},
      {"embeddings apart from the head",
       OnBase(R"({"peft_type":"LORA"})", Tensors({Spec(key, {6, 3})}),
              R"({"tie_word_embeddings":true})"),
       kUnsupported,
       {"apart from the head"}},
  });
  // The same bytes twice are one change of the tied tensor.
  EXPECT_TRUE(OnBase(R"({"peft_type":"LORA"})",
                     Tensors({Spec(key, {6, 3}),
                              Spec("base_model.model.lm_head.weight", {6, 3})}),
                     R"({"tie_word_embeddings":true})")
                  .ok());
  EXPECT_TRUE(
      OnBase(R"({"peft_type":"LORA"})", Tensors({Spec(key, {5, 3})})).ok());
}

TEST(MalformedUpdateTest, FactorsThatDoNotMultiply) {
  const TensorSpec a = Factor("lora_A.weight", {2, 3});
  const TensorSpec b = Factor("lora_B.weight", {4, 2});
  const std::string whole = Tensors({a, b});
  ExpectRefusals({
      {"integer factor",
       Adapter(Tensors({Factor("lora_A.weight", {2, 3}, DType::kI32), b})),
       "DTYPE_MISMATCH",
       {"lora_A.weight", "I32"}},
      {"vector factor",
       Adapter(Tensors({Factor("lora_A.weight", {6}), b})),
       "SHAPE_MISMATCH",
       {"[6]", "matrix"}},
      {"empty factor",
       Adapter(Tensors({Factor("lora_A.weight", {2, 0}), b})),
       "SHAPE_MISMATCH",
       {"[2, 0]"}},
      {"other rank",
       Adapter(whole, ",\"r\":4"),
       "SHAPE_MISMATCH",
       {"[2, 3]", "the rank 4"}},
      {"ranks that differ",
       Adapter(Tensors({a, Factor("lora_B.weight", {4, 3})})),
       "SHAPE_MISMATCH",
       {"[4, 3]"}},
      {"rank past the limit",
       Adapter(Tensors({Factor("lora_A.weight", {9, 3}),
                        Factor("lora_B.weight", {4, 9})}),
               ",\"r\":9"),
       "LIMIT_EXCEEDED",
       {"rank 9", "8"}},
      {"module not targeted",
       Adapter(whole, R"(,"r":2,"target_modules":["k"])"),
       kMalformed,
       {"target_modules"}},
  });
}

const std::string kDigest = "sha256:" + std::string(64, 'a');

std::map<std::string, std::string> Metadata(const std::string& format) {
  return {{"cairn.format", format},
          {"cairn.version", "1"},
          {"cairn.base", kDigest}};
}

absl::Status CairnUpdate(const std::string& file) {
  return OpenUpdate({{kUpdateFile, MakeMemorySource(file)}}).status();
}

// A sparse update of given byte strings.
absl::Status Sparse(const std::string& table, const std::string& gaps,
                    const std::string& values) {
  auto bytes = [](const char* name, const std::string& text) {
    return Spec(name, {static_cast<int64_t>(text.size())}, DType::kU8);
  };
  auto layout = LayOutSafetensors(
      {bytes("cairn.tensors", table), bytes("cairn.gaps", gaps),
       bytes("cairn.values", values)},
      Metadata("sparse"));
  return CairnUpdate(layout->header + gaps + table + values);
}

// One record of the table.
std::string Record(uint64_t shared, const std::string& name,
                   const std::string& dtype, const std::vector<uint64_t>& shape,
                   uint64_t count, uint64_t gap_bytes) {
  std::string out;
  AppendVarint(shared, out);
  AppendVarint(name.size(), out);
  out += name;
  AppendVarint(dtype.size(), out);
  out += dtype;
  AppendVarint(shape.size(), out);
  for (uint64_t dimension : shape) AppendVarint(dimension, out);
  AppendVarint(count, out);
  AppendVarint(gap_bytes, out);
  return out;
}

// One tensor of four elements, of which 1 and 3 change.
const std::string kRecord = Record(0, "w", "BF16", {4}, 2, 2);
const std::string kGaps("\x01\x01", 2);

TEST(MalformedUpdateTest, UpdatesOfNoKnownFormat) {
  ASSERT_TRUE(Sparse(kRecord, kGaps, "vvvv").ok())
      << Sparse(kRecord, kGaps, "vvvv");
  ASSERT_TRUE(CairnUpdate(Tensors({Spec("w", {2})}, Metadata("dense"))).ok());
  auto with = [](const char* key, const char* value) {
    auto metadata = Metadata("dense");
    metadata[key] = value;
    return CairnUpdate(Tensors({Spec("w", {2})}, metadata));
  };
  ExpectRefusals({
      {"no metadata",
       CairnUpdate(Tensors({Spec("w", {2})})),
       "UNKNOWN_FORMAT",
       {"cairn.format"}},
      {"other format",
       with("cairn.format", "quaternary"),
       "UNKNOWN_FORMAT",
       {"\"quaternary\"", "ternary"}},
      {"other version",
       with("cairn.version", "3"),
       "UNKNOWN_FORMAT",
       {"cairn.version", "\"3\"", "1, 2"}},
      {"base is no digest",
       with("cairn.base", "main"),
       kMalformed,
       {"cairn.base", "\"main\""}},
      {"bare base digest",
       with("cairn.base", "aa"),
       kMalformed,
       {"cairn.base"}},
      {"dense without tensors",
       CairnUpdate(Tensors({}, Metadata("dense"))),
       kMalformed,
       {"changes no tensor"}},
      {"dense of integers",
       CairnUpdate(Tensors({Spec("w", {2}, DType::kI64)}, Metadata("dense"))),
       "UNSUPPORTED",
       {"\"w\" is I64"}},
      {"no table",
       CairnUpdate(Tensors({Spec("w", {2})}, Metadata("sparse"))),
       kMalformed,
       {"cairn.tensors"}},
      {"a part of another type",
       CairnUpdate(Tensors(
           {Spec("cairn.tensors", {2}), Spec("cairn.gaps", {1}, DType::kU8),
            Spec("cairn.values", {1}, DType::kU8)},
           Metadata("sparse"))),
       kMalformed,
       {"U8 vector"}},
      {"a part too many",
       CairnUpdate(
           Tensors({Spec("cairn.tensors", {1}, DType::kU8),
                    Spec("cairn.gaps", {1}, DType::kU8),
                    Spec("cairn.values", {1}, DType::kU8), Spec("w", {1})},
                   Metadata("sparse"))),
       kMalformed,
       {"\"w\" does not belong"}},
  });
}

TEST(MalformedUpdateTest, SparseTables) {
  std::string overlong = kRecord;
  overlong.replace(0, 1, std::string("\x80\x00", 2));
  ExpectRefusals({
      {"empty table", Sparse("", "", ""), kMalformed, {"names no tensor"}},
      {"table cut short",
       Sparse(kRecord.substr(0, kRecord.size() - 1), kGaps, "vvvv"),
       kMalformed,
       {"cut short"}},
      {"overlong number",
       Sparse(overlong, kGaps, "vvvv"),
       kMalformed,
       {"malformed in the name"}},
      {"name past the table",
       Sparse(std::string("\x00\x7fw", 3), kGaps, "vvvv"),
       kMalformed,
       {"name"}},
      {"shared prefix past the name before",
       Sparse(Record(1, "w", "BF16", {4}, 2, 2), kGaps, "vvvv"),
       kMalformed,
       {"name"}},
      {"names out of order",
       Sparse(kRecord + Record(0, "v", "BF16", {4}, 2, 2), kGaps + kGaps,
              "vvvvvvvv"),
       kMalformed,
       {"\"v\" does not come after \"w\""}},
      {"name twice",
       Sparse(kRecord + Record(1, "", "BF16", {4}, 2, 2), kGaps + kGaps,
              "vvvvvvvv"),
       kMalformed,
       {"does not come after"}},
      {"control character",
       Sparse(Record(0, "a\nb", "BF16", {4}, 2, 2), kGaps, "vvvv"),
       kMalformed,
       {"name"}},
  });
}

TEST(MalformedUpdateTest, SparseTensors) {
  ExpectRefusals({
      {"unknown dtype",
       Sparse(Record(0, "w", "F31", {4}, 2, 2), kGaps, "vvvv"),
       kMalformed,
       {"\"w\"", "\"F31\""}},
      {"integer dtype",
       Sparse(Record(0, "w", "I16", {4}, 2, 2), kGaps, "vvvv"),
       "UNSUPPORTED",
       {"\"w\" is I16"}},
      {"65 dimensions",
       Sparse(Record(0, "w", "BF16", std::vector<uint64_t>(65, 1), 1, 1), kGaps,
              "vv"),
       kMalformed,
       {"65 dimensions"}},
      {"overflowing shape",
       Sparse(Record(0, "w", "BF16", {1ULL << 40, 1ULL << 40}, 2, 2), kGaps,
              "vvvv"),
       kMalformed,
       {"overflows"}},
      {"no changes",
       Sparse(Record(0, "w", "BF16", {4}, 0, 0), "", ""),
       kMalformed,
       {"has 0 changes"}},
      {"more changes than elements",
       Sparse(Record(0, "w", "BF16", {1}, 2, 2), kGaps, "vvvv"),
       kMalformed,
       {"has 2 changes but 1"}},
  });
}

TEST(MalformedUpdateTest, SparseGapsAndValues) {
  ExpectRefusals({
      {"too few gaps",
       Sparse(Record(0, "w", "BF16", {4}, 2, 3), kGaps, "vvvv"),
       kMalformed,
       {"more than the file holds"}},
      {"too few values",
       Sparse(kRecord, kGaps, "vvv"),
       kMalformed,
       {"more than the file holds"}},
      {"too many gaps",
       Sparse(kRecord, kGaps + "\x01", "vvvv"),
       kMalformed,
       {"cairn.gaps", "has 3 bytes"}},
      {"too many values",
       Sparse(kRecord, kGaps, "vvvvv"),
       kMalformed,
       {"cairn.values", "has 5 bytes"}},
      {"position past the end",
       Sparse(kRecord, std::string("\x01\x02", 2), "vvvv"),
       kMalformed,
       {"changes element 4 of 4"}},
      {"gap cut short",
       Sparse(kRecord, std::string("\x01\x81", 2), "vvvv"),
       kMalformed,
       {"change 1 of 2"}},
      {"overlong gap",
       Sparse(Record(0, "w", "BF16", {4}, 2, 3), std::string("\x01\x80\x00", 3),
              "vvvv"),
       kMalformed,
       {"change 1 of 2"}},
      {"gaps left over",
       Sparse(Record(0, "w", "BF16", {4}, 1, 2), kGaps, "vv"),
       kMalformed,
       {"1 bytes of gaps more"}},
      {"gap that overflows",
       Sparse(Record(0, "w", "BF16", {4}, 2, 10),
              "\x01" + std::string(8, '\xff') + "\x7f", "vvvv"),
       kMalformed,
       {"change 1 of 2"}},
  });
}

v1::ContributionManifest GoodManifest() {
  v1::ContributionManifest manifest;
  manifest.set_model("models/m");
  manifest.set_base_release("models/m/releases/v1.0.0");
  manifest.set_base_digest(kDigest);
  manifest.set_encoding(v1::Encoding::DENSE);
  v1::File& file = *manifest.add_files();
  file.set_path(kUpdateFile);
  file.set_size_bytes(100);
  file.set_sha256(std::string(64, 'a'));
  manifest.set_update_digest(UpdateDigest({file}));
  return manifest;
}

absl::Status Manifest(
    const std::function<void(v1::ContributionManifest&)>& change) {
  v1::ContributionManifest manifest = GoodManifest();
  change(manifest);
  return ParseManifest(manifest.SerializeAsString()).status();
}

TEST(MalformedUpdateTest, ManifestFields) {
  ASSERT_TRUE(Manifest([](auto&) {}).ok()) << Manifest([](auto&) {});
  ExpectRefusals({
      {"not a message",
       ParseManifest("\xff\xff").status(),
       kMalformed,
       {"ContributionManifest"}},
      {"too large",
       ParseManifest(std::string((1 << 20) + 1, ' ')).status(),
       "LIMIT_EXCEEDED",
       {"1048577"}},
      {"no model",
       Manifest([](auto& m) { m.clear_model(); }),
       kMalformed,
       {"model"}},
      {"another model's base",
       Manifest(
           [](auto& m) { m.set_base_release("models/n/releases/v1.0.0"); }),
       kMalformed,
       {"base_release"}},
      {"base no digest",
       Manifest([](auto& m) { m.set_base_digest("v1"); }),
       kMalformed,
       {"base_digest"}},
      {"bare base digest",
       Manifest([](auto& m) { m.set_base_digest(std::string(64, 'a')); }),
       kMalformed,
       {"base_digest"}},
      {"key no key",
       Manifest([](auto& m) { m.set_author_key("xyz"); }),
       kMalformed,
       {"author_key"}},
      {"no encoding",
       Manifest([](auto& m) { m.clear_encoding(); }),
       "UNKNOWN_FORMAT",
       {"encoding"}},
      {"encoding of the future",
       Manifest([](auto& m) {
         m.set_encoding(static_cast<v1::Encoding::Kind>(77));
       }),
       "UNKNOWN_FORMAT",
       {"encoding is 77"}},
  });
}

TEST(MalformedUpdateTest, ManifestFiles) {
  ExpectRefusals({
      {"no files",
       Manifest([](auto& m) { m.clear_files(); }),
       kMalformed,
       {"files is empty"}},
      {"code",
       Manifest([](auto& m) { m.mutable_files(0)->set_path("run.py"); }),
       "FORBIDDEN_FILE",
       {"\"run.py\""}},
      {"a path that leaves",
       Manifest([](auto& m) {
         m.mutable_files(0)->set_path("../cairn-update.safetensors");
       }),
       "FORBIDDEN_FILE",
       {"files[0]"}},
      {"file twice",
       Manifest([](auto& m) { *m.add_files() = m.files(0); }),
       kMalformed,
       {"files[1]", "twice"}},
      {"negative size",
       Manifest([](auto& m) { m.mutable_files(0)->set_size_bytes(-1); }),
       kMalformed,
       {"size_bytes is -1"}},
      {"no file digest",
       Manifest([](auto& m) { m.mutable_files(0)->set_sha256("aa"); }),
       kMalformed,
       {"files[0].sha256"}},
      {"digest of other files",
       Manifest([](auto& m) { m.mutable_files(0)->set_size_bytes(101); }),
       kMalformed,
       {"update_digest", "its files give"}},
  });
}

TEST(MalformedUpdateTest, ManifestTexts) {
  ExpectRefusals({
      {"long title",
       Manifest([](auto& m) { m.set_title(std::string(201, 'x')); }),
       "LIMIT_EXCEEDED",
       {"title"}},
      {"title of two lines",
       Manifest([](auto& m) { m.set_title("a\nb"); }),
       kMalformed,
       {"title", "one line"}},
      {"long licence",
       Manifest([](auto& m) { m.set_license(std::string(65, 'x')); }),
       "LIMIT_EXCEEDED",
       {"license"}},
      {"claim twice",
       Manifest([](auto& m) {
         m.add_claims("c");
         m.add_claims("c");
       }),
       kMalformed,
       {"claims[0]"}},
      {"empty claim",
       Manifest([](auto& m) { m.add_claims(""); }),
       kMalformed,
       {"claims[0]"}},
      {"too many claims",
       Manifest([](auto& m) {
         for (int i = 0; i < 101; ++i) m.add_claims(absl::StrCat(i));
       }),
       "LIMIT_EXCEEDED",
       {"claims has 101"}},
  });
}

}  // namespace
}  // namespace cairn
