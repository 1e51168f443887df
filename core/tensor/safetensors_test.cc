#include "core/tensor/safetensors.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "core/base/status_util.h"

namespace cairn {
namespace {

std::string Slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

std::string Golden(const std::string& name) {
  const char* root = std::getenv("CAIRN_SOURCE_DIR");
  return Slurp(std::string(root == nullptr ? "." : root) +
               "/tests/testdata/formats/" + name);
}

std::vector<TensorSpec> SpecsOf(const SafetensorsHeader& header) {
  return {header.tensors().begin(), header.tensors().end()};
}

TEST(SafetensorsTest, WritesTheHeaderThatTheReferenceWrites) {
  for (const char* name : {"mixed.safetensors", "lora_plain/model.safetensors",
                           "lora_plain/merged.safetensors"}) {
    const std::string bytes = Golden(name);
    auto file = MakeMemorySource(bytes);
    auto header = SafetensorsHeader::Read(*file, name);
    ASSERT_TRUE(header.ok()) << header.status();
    auto layout = LayOutSafetensors(SpecsOf(*header), header->metadata());
    ASSERT_TRUE(layout.ok()) << layout.status();
    EXPECT_EQ(layout->header,
              bytes.substr(0, static_cast<size_t>(header->header_bytes())));
    EXPECT_EQ(layout->file_bytes, static_cast<int64_t>(bytes.size()));
  }
}

TEST(SafetensorsTest, ReadsEveryDtypeOfTheReference) {
  auto file = MakeMemorySource(Golden("mixed.safetensors"));
  auto header = SafetensorsHeader::Read(*file, "mixed.safetensors");
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->tensors().size(), 20U);
  EXPECT_EQ(header->metadata().at("format"), "pt");
  const TensorEntry* scalar = header->Find("h.scalar");
  ASSERT_NE(scalar, nullptr);
  EXPECT_TRUE(scalar->shape.empty());
  char raw[4];
  ASSERT_TRUE(file->ReadAt(scalar->begin, absl::MakeSpan(raw)).ok());
  float value;
  std::memcpy(&value, raw, 4);
  EXPECT_EQ(value, 7.0F);
  EXPECT_EQ(header->Find("h.empty")->size_bytes(), 0);
  EXPECT_NE(header->Find("name \"quoted\" é"), nullptr);
  EXPECT_EQ(header->Find("absent"), nullptr);
}

TEST(SafetensorsTest, WriterGivesBackWhatItWasGivenInAnyOrder) {
  const std::string path = ::testing::TempDir() + "/writer.safetensors";
  std::mt19937 random(1);
  for (int round = 0; round < 20; ++round) {
    std::vector<TensorSpec> specs;
    std::map<std::string, std::string> values;
    for (int i = 0; i < 8; ++i) {
      TensorSpec spec{.name = "t" + std::to_string(random() % 1000) + "." +
                              std::to_string(i),
                      .dtype = static_cast<DType>(random() % 22),
                      .shape = {static_cast<int64_t>(random() % 5) * 4,
                                static_cast<int64_t>(random() % 7) * 2}};
      std::string bytes(static_cast<size_t>(spec.size_bytes()), '\0');
      for (char& c : bytes) c = static_cast<char>(random());
      values[spec.name] = bytes;
      specs.push_back(spec);
    }
    auto writer = SafetensorsWriter::Create(path, specs, {{"k", "v"}});
    ASSERT_TRUE(writer.ok()) << writer.status();
    for (const auto& [name, bytes] : values) {
      const size_t half = bytes.size() / 2;
      ASSERT_TRUE((*writer)
                      ->Write(name, static_cast<int64_t>(half),
                              absl::MakeConstSpan(bytes).subspan(half))
                      .ok());
      ASSERT_TRUE(
          (*writer)
              ->Write(name, 0, absl::MakeConstSpan(bytes).subspan(0, half))
              .ok());
    }
    ASSERT_TRUE(std::move(**writer).Finish().ok());
    auto file = OpenFileSource(path);
    ASSERT_TRUE(file.ok());
    auto header = SafetensorsHeader::Read(**file, "writer.safetensors");
    ASSERT_TRUE(header.ok()) << header.status();
    for (const auto& [name, bytes] : values) {
      const TensorEntry* entry = header->Find(name);
      ASSERT_NE(entry, nullptr);
      std::string got(bytes.size(), '\0');
      ASSERT_TRUE(
          (*file)
              ->ReadAt(entry->begin, absl::MakeSpan(&got[0], got.size()))
              .ok());
      EXPECT_EQ(got, bytes);
    }
  }
  std::filesystem::remove(path);
}

TEST(SafetensorsTest, AnUnfinishedFileLeavesNothing) {
  const std::string path = ::testing::TempDir() + "/unfinished.safetensors";
  {
    auto writer = SafetensorsWriter::Create(
        path, {{.name = "a", .dtype = DType::kU8, .shape = {4}}}, {});
    ASSERT_TRUE(writer.ok());
    EXPECT_EQ((*writer)->Write("a", 3, std::string("xy")).code(),
              absl::StatusCode::kInvalidArgument);
    EXPECT_EQ((*writer)->Write("b", 0, std::string("x")).code(),
              absl::StatusCode::kInvalidArgument);
    ASSERT_TRUE((*writer)->Write("a", 0, std::string("xyz")).ok());
    EXPECT_EQ(std::move(**writer).Finish().code(),
              absl::StatusCode::kFailedPrecondition);
  }
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_FALSE(std::filesystem::exists(path + ".tmp"));
}

TEST(SafetensorsTest, EveryTruncationIsRefused) {
  const std::string bytes = Golden("mixed.safetensors");
  for (size_t size = 0; size < bytes.size(); ++size) {
    auto file = MakeMemorySource(bytes.substr(0, size));
    auto header = SafetensorsHeader::Read(*file, "cut.safetensors");
    ASSERT_FALSE(header.ok()) << size;
    auto reason = GetReason(header.status());
    ASSERT_TRUE(reason.has_value());
    EXPECT_EQ(reason->code, "MALFORMED_FILE");
    EXPECT_EQ(reason->details["file"], "cut.safetensors");
  }
}

TEST(SafetensorsTest, RandomDamageNeverCrashes) {
  const std::string bytes = Golden("mixed.safetensors");
  std::mt19937 random(2);
  for (int round = 0; round < 20000; ++round) {
    std::string damaged = bytes;
    for (int i = 0; i < 3; ++i) {
      damaged[random() % damaged.size()] = static_cast<char>(random());
    }
    auto file = MakeMemorySource(damaged);
    auto header = SafetensorsHeader::Read(*file, "x");
    if (!header.ok()) {
      EXPECT_EQ(header.status().code(), absl::StatusCode::kInvalidArgument);
    }
  }
}

TEST(SafetensorsTest, LayoutRefusesNamesTwice) {
  TensorSpec a{.name = "a", .dtype = DType::kF32, .shape = {1}};
  EXPECT_FALSE(LayOutSafetensors({a, a}, {}).ok());
  TensorSpec reserved = a;
  reserved.name = "__metadata__";
  EXPECT_FALSE(LayOutSafetensors({reserved}, {}).ok());
}

}  // namespace
}  // namespace cairn
