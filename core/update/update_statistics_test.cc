#include "core/update/update_statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "core/base/status_util.h"
#include "core/update/testing/f32_base.h"
#include "core/update/update.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Values = std::map<std::string, std::vector<float>>;

constexpr char kGrams[] = R"({"q":"in","k":"in"})";

// A file whose tensors are vectors, but for those with a shape.
std::string File(
    const Values& tensors, std::map<std::string, std::string> metadata = {},
    const std::map<std::string, std::vector<int64_t>>& shapes = {}) {
  metadata.try_emplace("cairn.format", "statistics");
  metadata.try_emplace("cairn.version", "1");
  std::vector<TensorSpec> specs;
  for (const auto& [name, values] : tensors) {
    const auto shape = shapes.find(name);
    specs.push_back({.name = name,
                     .dtype = DType::kF32,
                     .shape = shape != shapes.end()
                                  ? shape->second
                                  : std::vector<int64_t>{
                                        static_cast<int64_t>(values.size())}});
  }
  const auto layout = LayOutSafetensors(specs, metadata).value();
  std::string file = layout.header;
  for (const TensorEntry& entry : layout.tensors) {
    const auto& values = tensors.at(entry.name);
    std::string bytes(values.size() * 4, '\0');
    FromFloats(DType::kF32, values, absl::MakeSpan(&bytes[0], bytes.size()));
    file += bytes;
  }
  return file;
}

absl::StatusOr<std::unique_ptr<UpdateStatistics>> Open(
    const std::string& file) {
  return UpdateStatistics::Open(SharedSource(MakeMemorySource(file)));
}

// q and k are [2, 3], b is [2].
v1::TensorManifest Base() {
  return testing::F32Base({{"b", {2}}, {"k", {2, 3}}, {"q", {2, 3}}});
}

std::string ReasonOf(const absl::Status& status) {
  const auto reason = GetReason(status);
  return reason ? reason->code : std::string(status.ToString());
}

TEST(UpdateStatisticsTest, ReadsWholeAndFactoredDiagonals) {
  auto file = Open(File({{"fisher/b", {1, 2}},
                         {"fisher.rows/q", {6, 12}},
                         {"fisher.columns/q", {3, 6, 9}}}));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE((*file)->CheckAgainstBase(Base(), "").ok());
  EXPECT_TRUE((*file)->CheckValues().ok());
  EXPECT_TRUE((*file)->HasFisher("q"));
  EXPECT_FALSE((*file)->HasFisher("k"));
  std::vector<float> b(2), q(6), part(3);
  ASSERT_TRUE((*file)->ReadFisher("b", 0, 1, absl::MakeSpan(b)).ok());
  EXPECT_THAT(b, ElementsAre(1, 2));
  ASSERT_TRUE((*file)->ReadFisher("q", 0, 3, absl::MakeSpan(q)).ok());
  // The sums of its rows and columns are those of the file.
  EXPECT_THAT(q, ElementsAre(1, 2, 3, 2, 4, 6));
  ASSERT_TRUE((*file)->ReadFisher("q", 2, 3, absl::MakeSpan(part)).ok());
  EXPECT_THAT(part, ElementsAre(3, 2, 4)) << "the same in any range";
}

TEST(UpdateStatisticsTest, LayersOfOneInputShareItsGramMatrix) {
  auto file = Open(
      File({{"gram/in", {4, -1, 5, 0.5, 2, 6}}}, {{"cairn.grams", kGrams}}));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE((*file)->CheckAgainstBase(Base(), "").ok());
  EXPECT_TRUE((*file)->CheckValues().ok());
  EXPECT_EQ((*file)->GramSize("q"), 3);
  EXPECT_EQ((*file)->GramSize("b"), std::nullopt);
  EXPECT_THAT((*file)->ReadGram("k").value(), ElementsAre(4, -1, 5, 0.5, 2, 6));
  EXPECT_TRUE(absl::IsNotFound((*file)->ReadGram("b").status()));
}

TEST(UpdateStatisticsTest, RefusesWhatDoesNotHoldTogether) {
  const struct {
    std::string file;
    const char* reason;
    const char* says;
  } cases[] = {
      {File({{"fisher/b", {1}}}, {{"cairn.format", "dense"}}), "UNKNOWN_FORMAT",
       "statistics"},
      {File({{"fisher/b", {1}}}, {{"cairn.version", "2"}}), "UNKNOWN_FORMAT",
       "version"},
      {File({{"fisher/b", {1}}}, {{"cairn.base", "main"}}), "MALFORMED_FILE",
       "cairn.base"},
      {File({}), "MALFORMED_FILE", "without any tensor"},
      {File({{"hessian/b", {1}}}), "MALFORMED_FILE", "hessian/b"},
      {File({{"fisher.rows/q", {1, 2}}}), "MALFORMED_FILE", "fisher.columns/"},
      {File({{"fisher/q", {1}},
             {"fisher.rows/q", {1}},
             {"fisher.columns/q", {1}}}),
       "MALFORMED_FILE", "either"},
      {File({{"gram/x", {1, 2, 3, 4}}}, {{"cairn.grams", R"({"q":"x"})"}}),
       "SHAPE_MISMATCH", "n (n + 1) / 2"},
      {File({{"gram/x", {1, 2, 3, 4}}}, {{"cairn.grams", R"({"q":"x"})"}},
            {{"gram/x", {2, 2}}}),
       "SHAPE_MISMATCH", "[2, 2]"},
      {File({{"gram/x", {1}}}), "MALFORMED_FILE", "no tensor of cairn.grams"},
      {File({{"gram/x", {1}}}, {{"cairn.grams", R"({"q":"y"})"}}),
       "MALFORMED_FILE", "not in the file"},
      {File({{"gram/x", {1}}}, {{"cairn.grams", "[1]"}}), "MALFORMED_FILE",
       "object"},
      {"no safetensors", "MALFORMED_FILE", "cairn-statistics"},
  };
  for (const auto& c : cases) {
    const absl::Status status = Open(c.file).status();
    EXPECT_EQ(ReasonOf(status), c.reason) << c.says;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.says));
  }
}

TEST(UpdateStatisticsTest, RefusesWhatDoesNotFitTheBase) {
  const std::string other = "sha256:" + std::string(64, 'a');
  const auto check = [](const std::string& file, const char* digest = "") {
    auto opened = Open(file);
    EXPECT_TRUE(opened.ok()) << opened.status();
    return ReasonOf((*opened)->CheckAgainstBase(Base(), digest));
  };
  EXPECT_EQ(check(File({{"fisher/x", {1}}})), "UNKNOWN_TENSOR");
  EXPECT_EQ(check(File({{"fisher/b", {1}}})), "SHAPE_MISMATCH");
  EXPECT_EQ(check(File({{"fisher/q", {1, 2, 3, 4, 5, 6}}})), "SHAPE_MISMATCH")
      << "a vector for a matrix";
  EXPECT_EQ(
      check(File({{"fisher.rows/q", {1, 2, 3}}, {"fisher.columns/q", {1, 2}}})),
      "SHAPE_MISMATCH");
  EXPECT_EQ(check(File({{"gram/x", {1}}}, {{"cairn.grams", R"({"q":"x"})"}})),
            "SHAPE_MISMATCH");
  EXPECT_EQ(
      check(File({{"fisher/b", {1, 1}}}, {{"cairn.base", other}}), "sha256:b"),
      "BASE_DIGEST_MISMATCH");
}

TEST(UpdateStatisticsTest, RefusesValuesThatAreNoStatistics) {
  const auto check = [](const Values& tensors, const char* grams = "") {
    auto opened = Open(File(tensors, {{"cairn.grams", grams}}));
    EXPECT_TRUE(opened.ok()) << opened.status();
    return ReasonOf((*opened)->CheckValues());
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(check({{"fisher/b", {1, nan}}}), "NON_FINITE");
  EXPECT_EQ(check({{"fisher/b", {1, -1}}}), "MALFORMED_FILE");
  EXPECT_EQ(check({{"gram/in", {1, INFINITY, 1}}}, kGrams), "NON_FINITE");
  EXPECT_EQ(check({{"gram/in", {1, 0, -1}}}, kGrams), "MALFORMED_FILE");
}

TEST(UpdateStatisticsTest, ComeWithTheUpdateTheyAreBeside) {
  const std::string digest = "sha256:" + std::string(64, 'a');
  FileMap files;
  files[kUpdateFile] = MakeMemorySource(File(
      {{"b", {1, 2}}}, {{"cairn.format", "dense"}, {"cairn.base", digest}}));
  EXPECT_EQ((*OpenUpdate(files))->statistics(), nullptr);
  files[kStatisticsFile] = MakeMemorySource(File({{"fisher/b", {1, 2, 3}}}));
  auto update = OpenUpdate(files);
  ASSERT_TRUE(update.ok()) << update.status();
  ASSERT_NE((*update)->statistics(), nullptr);
  EXPECT_EQ(ReasonOf(CheckAgainstBase(**update, Base(), digest)),
            "SHAPE_MISMATCH");
  files[kStatisticsFile] = MakeMemorySource(File({{"fisher/b", {1, 2}}}));
  EXPECT_TRUE(CheckAgainstBase(**OpenUpdate(files), Base(), digest).ok());
  EXPECT_TRUE(IsUpdateFile(kStatisticsFile));
}

}  // namespace
}  // namespace cairn
