#include "merge/train/token_corpus.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "core/base/digest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace cairn {
namespace {

using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class TokenCorpusTest : public ::testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& bytes) {
    const std::string path = ::testing::TempDir() + "/" + name;
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }
};

TEST_F(TokenCorpusTest, ReadsBytesIdsAndLines) {
  using std::string_literals::operator""s;
  const CounterRandom random(1, 2);
  auto bytes = TokenCorpus::Load({{{Write("a.txt", "az")}}}, 256);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_THAT(bytes->Window(random, 0, 8), ElementsAre('a', 'z'));
  EXPECT_EQ(bytes->digest(), Digest::Of("az").hex());
  auto wide = TokenCorpus::Load({{{Write("a.u16", "\x01\x02\x03\x00"s)}}}, 600);
  ASSERT_TRUE(wide.ok()) << wide.status();
  EXPECT_THAT(wide->Window(random, 0, 8), ElementsAre(513, 3));
  const std::string lines = Write(
      "a.jsonl", "{\"input_ids\": [1, 2, 3]}\n\n{\"input_ids\": [7, 8, 9]}\n");
  auto documents = TokenCorpus::Load({{{lines}}}, 10);
  ASSERT_TRUE(documents.ok()) << documents.status();
  EXPECT_EQ(documents->tokens(), 6);
  for (uint64_t i = 0; i < 50; ++i) {
    EXPECT_THAT(documents->Window(random, i, 1),
                AnyOf(ElementsAre(1, 2), ElementsAre(2, 3), ElementsAre(7, 8),
                      ElementsAre(8, 9)));
  }
}

TEST_F(TokenCorpusTest, DrawsFilesByWeight) {
  const std::string rare = Write("rare.txt", std::string(5000, 'r'));
  const std::string often = Write("often.txt", "oo");
  auto data = TokenCorpus::Load({{{rare, 1}, {often, 3}}}, 256);
  ASSERT_TRUE(data.ok());
  const CounterRandom random(3, 0);
  int count = 0;
  for (uint64_t i = 0; i < 4000; ++i) {
    count += data->Window(random, i, 4)[0] == 'o' ? 1 : 0;
  }
  EXPECT_NEAR(count, 3000, 150);
}

TEST_F(TokenCorpusTest, WindowsDependOnSeedAndIndexOnly) {
  std::string text;
  for (int i = 0; i < 4000; ++i) text += static_cast<char>(i * 7 % 251);
  auto data = TokenCorpus::Load({{{Write("b.txt", text)}}}, 256);
  ASSERT_TRUE(data.ok());
  EXPECT_EQ(data->Window({5, 1}, 9, 16), data->Window({5, 1}, 9, 16));
  EXPECT_NE(data->Window({5, 1}, 9, 16), data->Window({5, 1}, 10, 16));
  EXPECT_NE(data->Window({5, 1}, 9, 16), data->Window({6, 1}, 9, 16));
  EXPECT_EQ(data->Window({5, 1}, 9, 16).size(), 17U);
}

TEST_F(TokenCorpusTest, RefusesWhatIsNotTokenIds) {
  const struct {
    std::string path;
    std::string message;
  } kCases[] = {
      {Write("odd.u16", "abc"), "not a multiple of 2"},
      {Write("high.txt", "a\xff"), "token id 255"},
      {Write("high.jsonl", "{\"input_ids\":[1]}\n{\"input_ids\":[300]}\n"),
       "high.jsonl:2: token id 300"},
      {Write("text.jsonl", "{\"input_ids\":[\"a\"]}\n"), "whole numbers"},
      {Write("more.jsonl", "{\"input_ids\":[1,2],\"id\":1}\n"), "nothing else"},
      {Write("bad.jsonl", "{\n"), "bad.jsonl:1"},
      {Write("short.txt", "a"), "at least two"},
  };
  for (const auto& bad : kCases) {
    const auto data = TokenCorpus::Load({{{bad.path}}}, 200);
    EXPECT_EQ(data.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(data.status().message()), HasSubstr(bad.message));
  }
  EXPECT_EQ(TokenCorpus::Load({{{"/absent"}}}, 9).status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace cairn
