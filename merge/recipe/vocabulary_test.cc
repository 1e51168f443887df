#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_util.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/safetensors.h"
#include "merge/recipe/tokenizer_file.h"
#include "merge/recipe/vocabulary_alignment.h"
#include "merge/recipe/vocabulary_map.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

std::string Added(const std::string& token, int id) {
  return absl::StrCat(R"({"id":)", id, R"(,"content":")", token,
                      R"(","single_word":false,"lstrip":false,"rstrip":false,)",
                      R"("normalized":false,"special":true})");
}

std::string Bpe(const std::string& vocab, const std::string& merges,
                const std::string& added) {
  return absl::StrCat(R"({"version":"1.0","added_tokens":[)", added,
                      R"(],"model":{"type":"BPE","vocab":{)", vocab,
                      R"(},"merges":[)", merges, "]}}");
}

TokenizerFile Parsed(const std::string& text) {
  auto file = TokenizerFile::Parse(text, "m/tokenizer.json");
  EXPECT_TRUE(file.ok()) << file.status();
  return *std::move(file);
}

TEST(TokenizerFileTest, ReadsEveryKindOfVocabulary) {
  EXPECT_THAT(Parsed(Bpe(R"("a":0,"b":1)", "", Added("<s>", 2))).tokens(),
              UnorderedElementsAre(Pair("a", 0), Pair("b", 1), Pair("<s>", 2)));
  EXPECT_THAT(
      Parsed(R"({"model":{"type":"Unigram","vocab":[["x",-1.5],["y",-2]]}})")
          .tokens(),
      UnorderedElementsAre(Pair("x", 0), Pair("y", 1)));
}

TEST(TokenizerFileTest, RefusesWhatIsNone) {
  for (const std::string& text : std::vector<std::string>{
           "", "[]", "{}", R"({"model":{"vocab":3}})",
           R"({"model":{"vocab":{"a":"x"}}})",
           R"({"model":{"vocab":{"a":-1}}})",
           R"({"model":{"vocab":{"a":1,"b":1}}})",
           R"({"model":{"vocab":{}},"added_tokens":[{"id":1}]})",
           Bpe(R"("a":0)", "", Added("a", 1))}) {
    const auto status = TokenizerFile::Parse(text, "m/tokenizer.json").status();
    ASSERT_TRUE(absl::IsInvalidArgument(status)) << text << status;
    EXPECT_EQ(GetReason(status)->code, "MALFORMED_FILE") << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr("m/tokenizer.json"));
  }
}

TEST(TokenizerFileTest, ForgetsWhatAModelHasNoRowsFor) {
  TokenizerFile file = Parsed(Bpe(R"("a":0,"b":1,"ab":2,"aa":3)",
                                  R"("a b",["a","a"])", Added("<pad>", 4)));
  ASSERT_TRUE(file.DropFrom(3).ok());
  EXPECT_THAT(file.tokens(),
              UnorderedElementsAre(Pair("a", 0), Pair("b", 1), Pair("ab", 2)));
  EXPECT_THAT(file.Text(), HasSubstr("a b"));
  ASSERT_TRUE(file.DropFrom(1).ok());
  const TokenizerFile again = Parsed(file.Text());
  EXPECT_THAT(again.tokens(), UnorderedElementsAre(Pair("a", 0)));
  EXPECT_THAT(file.Text(), ::testing::Not(HasSubstr("a b")))
      << "a merge of tokens that are gone";
  TokenizerFile unigram =
      Parsed(R"({"model":{"type":"Unigram","vocab":[["x",0],["y",0]]}})");
  EXPECT_EQ(GetReason(unigram.DropFrom(1))->code, "UNSUPPORTED");
}

TEST(TokenizerFileTest, TakesTokensInWithTheirSettings) {
  TokenizerFile file = Parsed(Bpe(R"("a":0)", "", Added("<s>", 1)));
  const TokenizerFile other =
      Parsed(Bpe(R"("a":3,"b":0)", "", Added("<x>", 1)));
  file.Add("b", other);
  file.Add("<x>", other);
  const TokenizerFile again = Parsed(file.Text());
  EXPECT_THAT(again.tokens(),
              UnorderedElementsAre(Pair("a", 0), Pair("<s>", 1), Pair("b", 2),
                                   Pair("<x>", 3)));
  const std::string config = file.ConfigText(
      R"({"added_tokens_decoder":{"1":{"content":"<s>"}},"x":1})");
  EXPECT_THAT(config, HasSubstr("\"3\""));
  EXPECT_THAT(config, HasSubstr("<x>"));
  EXPECT_EQ(file.ConfigText(R"({"x":1})"), R"({"x":1})");
}

TEST(VocabularyMapTest, FillsInWhatAModelLacks) {
  const TokenizerFile base = Parsed(Bpe(R"("a":0,"b":1)", "", ""));
  const TokenizerFile one = Parsed(Bpe(R"("b":0,"c":1,"d":2)", "", ""));
  const TokenizerFile two = Parsed(Bpe(R"("c":0,"a":1,"d":9)", "", ""));
  TokenizerFile common = base;
  common.Add("c", one);
  common.Add("d", one);
  const std::vector<ModelVocabulary> models = {
      {&base, 3}, {&one, 3}, {&two, 4}};
  const VocabularyMap map = MapVocabularies(common, models, 0, 0);
  EXPECT_EQ(map.size, 4);
  EXPECT_THAT(map.rows[0], ElementsAre(0, 1, -1, -1));
  EXPECT_THAT(map.rows[1], ElementsAre(-1, 0, 1, 2));
  EXPECT_THAT(map.rows[2], ElementsAre(1, -1, 0, -1)) << "d has no row";
  // a and b: the base's; c: a mean; d: the only model that has it.
  using Donor = VocabularyMap::Donor;
  const Donor mean = {.model = VocabularyMap::kMean};
  EXPECT_THAT(map.donors,
              ElementsAre(Donor{0, 0}, Donor{0, 1}, mean, Donor{1, 2}));
  EXPECT_FALSE(map.IsIdentity(0, 3));
  EXPECT_TRUE(MapVocabularies(base, {{&base, 2}}, 0, 0).IsIdentity(0, 2));
  EXPECT_THAT(MapVocabularies(common, models, 0, std::nullopt).donors,
              ElementsAre(mean, mean, mean, Donor{1, 2}));
}

// A model of an embedding of two columns, whose rows are numbered.
std::shared_ptr<ModelSource> Model(const std::string& label,
                                   const std::vector<float>& rows,
                                   const std::string& tokenizer) {
  const auto count = static_cast<int64_t>(rows.size());
  const auto layout = LayOutSafetensors({{.name = "model.embed_tokens.weight",
                                          .dtype = DType::kF32,
                                          .shape = {count, 2}}},
                                        {});
  std::vector<float> values;
  for (float row : rows) values.insert(values.end(), {row, row + 0.5f});
  std::string packed(values.size() * 4, '\0');
  FromFloats(DType::kF32, values, absl::MakeSpan(packed));
  FileMap files;
  files["model.safetensors"] = MakeMemorySource(layout->header + packed);
  files["config.json"] = MakeMemorySource("{}");
  if (!tokenizer.empty()) {
    files["tokenizer.json"] = MakeMemorySource(tokenizer);
  }
  auto source = ModelSource::Open(
      label, std::make_shared<Checkpoint>(*Checkpoint::Open(std::move(files))));
  return std::make_shared<ModelSource>(*std::move(source));
}

RecipeSource Source(const std::string& model) {
  RecipeSource source;
  source.model = model;
  return source;
}

TEST(VocabularyAlignmentTest, RowsFollowTheTokensInTilesOfAnySize) {
  const auto open = [](const std::string& name)
      -> absl::StatusOr<std::shared_ptr<ModelSource>> {
    if (name == "base")
      return Model(name, {1, 2}, Bpe(R"("a":0,"b":1)", "", ""));
    return Model(name, {10, 20, 30}, Bpe(R"("c":2,"b":0,"a":1)", "", ""));
  };
  Recipe recipe;
  recipe.base_model = "base";
  recipe.models = {Source("other")};
  recipe.tokenizer_source = "union";
  auto aligned = AlignVocabularies(recipe, open);
  ASSERT_TRUE(aligned.ok()) << aligned.status();
  EXPECT_EQ(aligned->vocab_size, 3);
  EXPECT_EQ(aligned->like->label(), "base");
  EXPECT_THAT(aligned->files.at("tokenizer.json"), HasSubstr("\"c\""));
  const auto read = [&](const std::string& name, size_t tile) {
    const ModelSource& model = *aligned->models.at(name);
    const SourceTensor& tensor = *model.Find("model.embed_tokens.weight");
    EXPECT_EQ(tensor.spec.shape, (std::vector<int64_t>{3, 2}));
    std::vector<float> values(6);
    std::vector<char> raw;
    for (size_t at = 0; at < 6; at += tile) {
      EXPECT_TRUE(
          model
              .Read(tensor, static_cast<int64_t>(at),
                    absl::MakeSpan(values).subspan(at, std::min(tile, 6 - at)),
                    raw)
              .ok());
    }
    return values;
  };
  for (size_t tile : {1, 4, 5, 6}) {
    EXPECT_THAT(read("base", tile), ElementsAre(1, 1.5, 2, 2.5, 30, 30.5));
    EXPECT_THAT(read("other", tile), ElementsAre(20, 20.5, 10, 10.5, 30, 30.5));
  }
  recipe.tokenizer_source = "base";
  aligned = AlignVocabularies(recipe, open);
  EXPECT_EQ(aligned->vocab_size, 2);
  EXPECT_TRUE(aligned->files.empty()) << "copied as it is";
  recipe.models = {};
  EXPECT_FALSE(AlignVocabularies(recipe, open)->vocab_size.has_value());
}

TEST(VocabularyAlignmentTest, RulesSayWhereRowsComeFrom) {
  const auto open = [](const std::string& name)
      -> absl::StatusOr<std::shared_ptr<ModelSource>> {
    if (name == "base") {
      return Model(name, {1, 2}, Bpe(R"("a":0,"b":1)", "", ""));
    }
    return Model(name, {10, 20, 30}, Bpe(R"("c":2,"b":0,"a":1)", "", ""));
  };
  using From = TokenRule::From;
  Recipe recipe;
  recipe.base_model = "base";
  recipe.models = {Source("other")};
  recipe.tokenizer_source = "base";
  recipe.tokens = {
      {.token = "a",
       .from = From::kModel,
       .model = "other",
       .is_for_all = true},
      {.token = "new", .from = From::kToken, .model = "other", .other = "c"},
      {.token = "none", .from = From::kZeros},
      {.token = "row", .from = From::kRow, .model = "base", .row = 1}};
  recipe.pad_to_multiple_of = 4;
  auto aligned = AlignVocabularies(recipe, open);
  ASSERT_TRUE(aligned.ok()) << aligned.status();
  EXPECT_EQ(aligned->vocab_size, 8);
  EXPECT_THAT(aligned->files.at("tokenizer.json"), HasSubstr("\"none\""));
  // a is the other's; b its own; then the new ones, and their mean.
  const std::vector<std::pair<std::string, std::vector<float>>> wanted = {
      {"base", {20, 2, 30, 0, 2}}, {"other", {20, 10, 30, 0, 2}}};
  for (const auto& [name, rows] : wanted) {
    const ModelSource& model = *aligned->models.at(name);
    const SourceTensor& tensor = *model.Find("model.embed_tokens.weight");
    std::vector<float> values(16);
    std::vector<char> raw;
    ASSERT_TRUE(model.Read(tensor, 0, absl::MakeSpan(values), raw).ok());
    float sum = 0;
    for (size_t r = 0; r < 8; ++r) {
      const float first = r < rows.size() ? rows[r] : sum / 5;
      EXPECT_FLOAT_EQ(values[2 * r], first) << name << " " << r;
      const float half = r == 3 ? 0 : r < rows.size() ? 0.5f : 0.4f;
      EXPECT_FLOAT_EQ(values[2 * r + 1], first + half) << name << " " << r;
      if (r < rows.size()) sum += rows[r];
    }
  }
  const auto message = [&](TokenRule rule) {
    recipe.tokens = {std::move(rule)};
    return std::string(AlignVocabularies(recipe, open).status().message());
  };
  EXPECT_THAT(message({.token = "new"}), HasSubstr("\"new\" has no source"));
  EXPECT_THAT(message({.token = "new", .from = From::kModel, .model = "nix"}),
              HasSubstr("nix"));
  EXPECT_THAT(message({.token = "new", .from = From::kModel, .model = "base"}),
              HasSubstr("has no row for"));
  EXPECT_THAT(
      message({.token = "new", .from = From::kRow, .model = "base", .row = 2}),
      HasSubstr("has no row for"));
  EXPECT_EQ(message({.token = "a"}), "") << "every model has it";
}

TEST(VocabularyAlignmentTest, SaysWhatIsMissing) {
  const auto open = [](const std::string& name)
      -> absl::StatusOr<std::shared_ptr<ModelSource>> {
    return Model(name, {1, 2},
                 name == "with" ? Bpe(R"("a":0,"b":1)", "", "") : "");
  };
  Recipe recipe;
  recipe.models = {Source("without"), Source("with")};
  recipe.tokenizer_source = "union";
  const auto refused = AlignVocabularies(recipe, open).status();
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("without has no tokenizer.json"));
  recipe.tokenizer_source = "base";
  EXPECT_THAT(AlignVocabularies(recipe, open)->warnings,
              ElementsAre(HasSubstr("merged by number")));
  recipe.tokenizer_source = "with";
  EXPECT_THAT(AlignVocabularies(recipe, open)->warnings,
              ElementsAre(HasSubstr("have the tokens of with")));
}

}  // namespace
}  // namespace cairn
