#include "merge/eval/token_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

std::string Decoded(const std::string& decoder, const std::string& vocabulary,
                    const std::vector<int64_t>& ids) {
  const auto text =
      TokenText::Parse(absl::StrCat(R"({"model": {"vocab": )", vocabulary,
                                    R"(}, "decoder": )", decoder, "}"));
  EXPECT_TRUE(text.ok()) << text.status();
  return text.ok() ? text->Decode(ids) : "";
}

TEST(TokenTextTest, BytesOfGpt2BecomeText) {
  constexpr char kByteLevel[] = R"({"type": "ByteLevel"})";
  constexpr char kTokens[] = R"({"Hi": 0, "Ġthere": 1, "Ċ": 2, "Ã": 3, "©": 4,
                                 "é": 5, "漢": 6})";
  EXPECT_EQ(Decoded(kByteLevel, kTokens, {0, 1, 2}), "Hi there\n");
  EXPECT_EQ(Decoded(kByteLevel, kTokens, {3, 4}), "é");
  EXPECT_EQ(Decoded(kByteLevel, kTokens, {3, 0}), "\xEF\xBF\xBDHi");
  EXPECT_EQ(Decoded(kByteLevel, kTokens, {5}), "\xEF\xBF\xBD")
      << "the byte 0xE9 alone";
  EXPECT_EQ(Decoded(kByteLevel, kTokens, {6}), "漢") << "is not written so";
}

TEST(TokenTextTest, DecodersOfLlamaAreAppliedInTurn) {
  constexpr char kLlama[] = R"({"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
      {"type": "ByteFallback"}, {"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})";
  constexpr char kTokens[] =
      R"({"▁Hi": 0, "▁there": 1, "<0xC3>": 2, "<0xA9>": 3, "<0x41>": 4})";
  EXPECT_EQ(Decoded(kLlama, kTokens, {0, 1}), "Hi there");
  EXPECT_EQ(Decoded(kLlama, kTokens, {0, 2, 3, 4}), "HiéA");
  EXPECT_EQ(Decoded(kLlama, kTokens, {2, 0}), "\xEF\xBF\xBD Hi");
}

TEST(TokenTextTest, PairsOfUnigramAndMetaspace) {
  constexpr char kTokens[] = R"([["<unk>", 0], ["▁a", -1], ["b", -2]])";
  EXPECT_EQ(Decoded(R"({"type": "Metaspace", "replacement": "▁"})", kTokens,
                    {1, 2, 1}),
            "ab a");
  EXPECT_EQ(Decoded(R"({"type": "Metaspace", "prepend_scheme": "never"})",
                    kTokens, {1, 2, 1}),
            " ab a");
  EXPECT_EQ(Decoded("null", kTokens, {1, 2}), "▁a b");
}

TEST(TokenTextTest, SpecialTokensHaveNoText) {
  const auto text = TokenText::Parse(
      R"({"model": {"vocab": {"a": 0}}, "decoder": {"type": "ByteLevel"},
          "added_tokens": [{"id": 1, "content": "</s>", "special": true},
                           {"id": 2, "content": "<tool>", "special": false}]})");
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(text->Decode({0, 1, 2, 99}), "a<tool>");
}

TEST(TokenTextTest, DecodersThatGrowTextsAreHeldBack) {
  std::string steps = R"({"type":"Replace","pattern":{"String":"b"},)"
                      R"("content":"bb"})";
  for (int i = 0; i < 6; ++i) steps += "," + steps;
  const std::string text =
      Decoded(absl::StrCat(R"({"type":"Sequence","decoders":[)", steps, "]}"),
              R"({"b":0})", {0, 0});
  EXPECT_EQ(text, std::string(1 << 20, 'b'));
}

TEST(TokenTextTest, TellsDamagedFromUnknown) {
  for (const char* json :
       {"", "[]", "{}", R"({"model": {}})",
        R"({"model": {"vocab": {"a": "b"}}})", R"({"model": {"vocab": [1]}})",
        R"({"model": {"vocab": {}}, "decoder": {"type": "Sequence"}})",
        R"({"model": {"vocab": {}}, "decoder": {"type": "Strip",
            "content": "", "start": 4611686018427387904}})"}) {
    EXPECT_EQ(TokenText::Parse(json).status().code(),
              absl::StatusCode::kDataLoss)
        << json;
  }
  const absl::Status unknown =
      TokenText::Parse(
          R"({"model": {"vocab": {}}, "decoder": {"type": "CTC"}})")
          .status();
  EXPECT_EQ(unknown.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(unknown.message()), HasSubstr("CTC"));
  EXPECT_EQ(TokenText::Open({}).status().code(),
            absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace cairn
