#include "core/tensor/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "core/base/digest.h"
#include "core/base/status_util.h"
#include "core/tensor/tensor_manifest.h"
#include "core/tensor/tensor_norm.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

// A safetensors file in memory; tensor i holds the bytes of values[i].
SharedSource MakeFile(const std::vector<TensorSpec>& specs,
                      const std::map<std::string, std::string>& values) {
  auto layout = LayOutSafetensors(specs, {});
  EXPECT_TRUE(layout.ok()) << layout.status();
  std::string bytes = layout->header;
  for (const TensorEntry& entry : layout->tensors) {
    auto it = values.find(entry.name);
    bytes += it == values.end()
                 ? std::string(static_cast<size_t>(entry.size_bytes()), '\1')
                 : it->second;
  }
  return MakeMemorySource(bytes);
}

SharedSource MakeText(const std::string& text) {
  return MakeMemorySource(text);
}

TensorSpec Spec(const std::string& name) {
  return {.name = name, .dtype = DType::kF32, .shape = {2}};
}

FileMap Sharded() {
  return {{"model-00001-of-00002.safetensors", MakeFile({Spec("b")}, {})},
          {"model-00002-of-00002.safetensors",
           MakeFile({Spec("a"), Spec("c")}, {})},
          {"config.json", MakeText("{\"x\": 1}")},
          {"model.safetensors.index.json",
           MakeText(R"({"metadata": {"total_size": 3},
             "weight_map": {"a": "model-00002-of-00002.safetensors",
                            "b": "model-00001-of-00002.safetensors",
                            "c": "model-00002-of-00002.safetensors"}})")}};
}

void ExpectRefused(const FileMap& files, const std::string& reason,
                   const std::string& named) {
  auto checkpoint = Checkpoint::Open(files);
  ASSERT_FALSE(checkpoint.ok());
  auto found = GetReason(checkpoint.status());
  ASSERT_TRUE(found.has_value()) << checkpoint.status();
  EXPECT_EQ(found->code, reason);
  EXPECT_THAT(std::string(checkpoint.status().message()), HasSubstr(named));
}

TEST(CheckpointTest, OpensShardsByTheirIndex) {
  auto checkpoint = Checkpoint::Open(Sharded());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  ASSERT_EQ(checkpoint->tensors().size(), 3U);
  EXPECT_EQ(checkpoint->tensors()[0].name, "a");
  EXPECT_EQ(checkpoint->tensors()[0].file, "model-00002-of-00002.safetensors");
  EXPECT_EQ(checkpoint->config_json(), "{\"x\": 1}");
  EXPECT_EQ(checkpoint->tensor_bytes(), 24);
  EXPECT_EQ(checkpoint->Find("d"), nullptr);
}

TEST(CheckpointTest, RefusesIndexesThatDoNotFitTheirShards) {
  FileMap files = Sharded();
  files.erase("model-00001-of-00002.safetensors");
  ExpectRefused(files, "MALFORMED_FILE",
                "model-00001-of-00002.safetensors: is missing");
  files = Sharded();
  files["model-00001-of-00002.safetensors"] =
      MakeFile({Spec("b"), Spec("a")}, {});
  ExpectRefused(files, "MALFORMED_FILE", "tensor \"a\"");
  files = Sharded();
  files["model-00001-of-00002.safetensors"] =
      MakeFile({Spec("b"), Spec("d")}, {});
  ExpectRefused(files, "MALFORMED_FILE", "does not name it");
  files = Sharded();
  files["model-00002-of-00002.safetensors"] = MakeFile({Spec("a")}, {});
  ExpectRefused(files, "MALFORMED_FILE", "names tensor \"c\"");
}

TEST(CheckpointTest, RefusesPathsThatLeaveTheDirectory) {
  for (const char* path : {"../x.safetensors", "/x.safetensors",
                           "sub/x.safetensors", "a\\b.safetensors", "x.bin"}) {
    FileMap files = Sharded();
    std::string text = R"({"weight_map": {"a": "PATH"}})";
    std::string escaped = path;
    if (escaped == "a\\b.safetensors") escaped = "a\\\\b.safetensors";
    text.replace(text.find("PATH"), 4, escaped);
    files["model.safetensors.index.json"] = MakeText(text);
    ExpectRefused(files, "FORBIDDEN_FILE", "weight_map");
  }
}

TEST(CheckpointTest, SaysThatThereIsNoCheckpoint) {
  EXPECT_EQ(Checkpoint::Open({{"config.json", MakeText("{}")}}).status().code(),
            absl::StatusCode::kNotFound);
}

TEST(CheckpointTest, ReadsNumbersOfEveryNumericDtypeAtAnyOffset) {
  std::vector<float> values(10000);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(i % 256) - 100.0F;
  }
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    TensorSpec spec{.name = "w", .dtype = dtype, .shape = {100, 100}};
    std::string bytes(static_cast<size_t>(spec.size_bytes()), '\0');
    FromFloats(dtype, values, absl::MakeSpan(&bytes[0], bytes.size()));
    auto checkpoint = Checkpoint::Open(
        {{"model.safetensors", MakeFile({spec}, {{"w", bytes}})}});
    ASSERT_TRUE(checkpoint.ok());
    std::vector<float> out(9000);
    ASSERT_TRUE(checkpoint->ReadFloats("w", 999, absl::MakeSpan(out)).ok());
    EXPECT_EQ(out,
              std::vector<float>(values.begin() + 999, values.begin() + 9999));
    EXPECT_EQ(checkpoint->ReadFloats("w", 9000, absl::MakeSpan(out)).code(),
              absl::StatusCode::kOutOfRange);
    double square = 0.0;
    for (float v : values) square += static_cast<double>(v) * v;
    auto source = checkpoint->OpenTensor("w");
    EXPECT_NEAR(*FrobeniusNorm(dtype, **source), std::sqrt(square), 1e-6);
  }
}

TEST(TensorManifestTest, IsTheSameWhateverTheThreads) {
  auto checkpoint = Checkpoint::Open(Sharded());
  ASSERT_TRUE(checkpoint.ok());
  auto one = MakeTensorManifest(*checkpoint, 1);
  auto four = MakeTensorManifest(*checkpoint, 4);
  ASSERT_TRUE(one.ok() && four.ok());
  const std::string bytes = SerializeTensorManifest(*one);
  EXPECT_EQ(bytes, SerializeTensorManifest(*four));
  EXPECT_EQ(one->tensors(0).sha256(), Digest::Of(std::string(8, '\1')).hex());
  auto parsed = ParseTensorManifest(bytes);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(SerializeTensorManifest(*parsed), bytes);
  ASSERT_NE(FindTensor(*parsed, "c"), nullptr);
  EXPECT_EQ(FindTensor(*parsed, "c")->file(),
            "model-00002-of-00002.safetensors");
  EXPECT_EQ(FindTensor(*parsed, "bb"), nullptr);
}

TEST(TensorManifestTest, RefusesWhatCannotBe) {
  auto checkpoint = Checkpoint::Open(Sharded());
  const v1::TensorManifest good = *MakeTensorManifest(*checkpoint);
  auto refused = [&](auto change) {
    v1::TensorManifest manifest = good;
    change(manifest);
    return !ParseTensorManifest(SerializeTensorManifest(manifest)).ok();
  };
  EXPECT_TRUE(
      refused([](auto& m) { m.mutable_tensors()->SwapElements(0, 1); }));
  EXPECT_TRUE(refused([](auto& m) { *m.add_tensors() = m.tensors(2); }));
  EXPECT_TRUE(refused([](auto& m) { m.mutable_tensors(0)->set_dtype("F31"); }));
  EXPECT_TRUE(refused([](auto& m) { m.mutable_tensors(0)->set_sha256("00"); }));
  EXPECT_TRUE(refused([](auto& m) { m.mutable_tensors(0)->set_shape(0, -2); }));
  EXPECT_TRUE(
      refused([](auto& m) { m.mutable_tensors(0)->set_size_bytes(9); }));
  EXPECT_FALSE(ParseTensorManifest("\xff").ok());
}

TEST(ByteSourceTest, ConcatenationReadsAcrossItsParts) {
  std::vector<SharedSource> parts;
  for (const char* text : {"ab", "", "cde", "f", ""}) {
    parts.push_back(MakeText(text));
  }
  SharedSource all = MakeConcatSource(parts);
  EXPECT_EQ(all->size(), 6);
  for (int64_t begin = 0; begin <= 6; ++begin) {
    for (int64_t end = begin; end <= 6; ++end) {
      auto slice = MakeSliceSource(all, begin, end - begin);
      EXPECT_EQ(*ReadAll(*slice, 100),
                std::string("abcdef").substr(static_cast<size_t>(begin),
                                             static_cast<size_t>(end - begin)));
    }
  }
  char c;
  EXPECT_EQ(all->ReadAt(6, absl::MakeSpan(&c, 1)).code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(all->ReadAt(-1, absl::MakeSpan(&c, 1)).code(),
            absl::StatusCode::kOutOfRange);
}

}  // namespace
}  // namespace cairn
