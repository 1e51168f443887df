#include "merge/recipe/recipe.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "merge/recipe/layer_names.h"
#include "merge/recipe/output_config.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<std::vector<Recipe>> Parse(
    const std::string& text, UnknownKeys unknown = UnknownKeys::kRefuse) {
  std::vector<std::string> warnings;
  return ParseRecipe(text, "r.yml", unknown, warnings);
}

constexpr char kTies[] =
    "merge_method: ties\nbase_model: b\nmodels:\n"
    "  - {model: a, parameters: {weight: [0.2, 0.8], density: 0.5}}\n"
    "parameters: {normalize: false, weight: [{filter: mlp, value: 1e-1}, "
    "{value: 2}]}\ndtype: torch.bfloat16\n";

TEST(RecipeTest, ReadsModelsParametersAndTypes) {
  const auto recipes = Parse(kTies);
  ASSERT_TRUE(recipes.ok()) << recipes.status();
  const Recipe& recipe = recipes->at(0);
  EXPECT_EQ(recipe.method, "ties");
  EXPECT_EQ(recipe.dtype, "bfloat16");
  EXPECT_EQ(recipe.models.at(0).model, "a");
  const ParameterSetting& own = recipe.models[0].parameters.at("weight");
  EXPECT_DOUBLE_EQ(*EvaluateSetting(own, "x", 0.25), 0.35);
  const ParameterSetting& all = recipe.parameters.at("weight");
  EXPECT_DOUBLE_EQ(*EvaluateSetting(all, "layers.0.mlp.up", 0), 0.1);
  EXPECT_DOUBLE_EQ(*EvaluateSetting(all, "norm", 0), 2);
  EXPECT_DOUBLE_EQ(*EvaluateSetting(recipe.parameters.at("normalize"), "", 0),
                   0);
}

TEST(RecipeTest, AFilterThatMatchesNothingGivesNothing) {
  EXPECT_FALSE(EvaluateSetting({{"q_proj", {1.0}}}, "norm", 0).has_value());
}

TEST(RecipeTest, SaysWhereAndWhatIsWrong) {
  const std::string start = "merge_method: ties\nbase_model: b\n";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"merge_method: tyes\n", "tyes"},
      {"- 1\n", "mapping"},
      {"", "empty"},
      {"a: [1\n", "r.yml"},
      {start, "models"},
      {start + "dtyp: float32\nmodels: [{model: a}]\n", "r.yml:3"},
      {start + "models: [{model: a, parameters: {densty: 1}}]\n", "densty"},
      {start + "models: [{model: a, parameters: {density: 1.5}}]\n", "1.5"},
      {start + "models: [{model: a, parameters: {weight: .nan}}]\n", "weight"},
      {start + "models: [{model: a, parameters: {weight: much}}]\n", "much"},
      {start + "dtype: float12\nmodels: [{model: a}]\n", "float12"},
      {start + "models: [{model: a}]\nslices: [{sources: [{model: a, "
               "layer_range: [0, 1]}]}]\n",
       "slices"},
      {start + "slices: [{sources: [{model: a, layer_range: [2, 1]}]}]\n",
       "layer_range"}};
  for (const auto& [text, named] : cases) {
    const auto recipes = Parse(text);
    ASSERT_FALSE(recipes.ok()) << text;
    EXPECT_THAT(std::string(recipes.status().message()), HasSubstr(named));
  }
}

constexpr char kLinear[] =
    "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]\n";

TEST(RecipeTest, ReadsWhatIsSaidAboutTokens) {
  using From = TokenRule::From;
  const auto recipes = Parse(absl::StrCat(
      kLinear,
      "tokenizer:\n  source: base\n  pad_to_multiple_of: 64\n  tokens:\n"
      "    <z>: {source: {kind: zero}, force: true}\n"
      "    <m>: {source: a}\n"
      "    <t>: {source: {kind: model_token, model: a, token: x}}\n"
      "    <r>: {source: {kind: model_token, model: {model: {path: a}}, "
      "token_id: 7}}\n"
      "    <n>: {}\n"
      "chat_template: auto\n"));
  ASSERT_TRUE(recipes.ok()) << recipes.status();
  const Recipe& recipe = recipes->at(0);
  EXPECT_EQ(recipe.tokenizer_source, "base");
  EXPECT_EQ(recipe.pad_to_multiple_of, 64);
  EXPECT_EQ(recipe.chat_template, "auto");
  ASSERT_EQ(recipe.tokens.size(), 5U);
  EXPECT_EQ(recipe.tokens[0].token, "<z>");
  EXPECT_EQ(recipe.tokens[0].from, From::kZeros);
  EXPECT_TRUE(recipe.tokens[0].is_for_all);
  EXPECT_EQ(recipe.tokens[1].from, From::kModel);
  EXPECT_EQ(recipe.tokens[1].model, "a");
  EXPECT_FALSE(recipe.tokens[1].is_for_all);
  EXPECT_EQ(recipe.tokens[2].from, From::kToken);
  EXPECT_EQ(recipe.tokens[2].other, "x");
  EXPECT_EQ(recipe.tokens[3].from, From::kRow);
  EXPECT_EQ(recipe.tokens[3].model, "a");
  EXPECT_EQ(recipe.tokens[3].row, 7);
  EXPECT_EQ(recipe.tokens[4].from, From::kNothing);
}

TEST(RecipeTest, EndsWithTextsThatTheYamlReaderNeverEnds) {
  for (const char* text : {", 2], parma", "- a\n}"}) {
    EXPECT_FALSE(Parse(text).ok()) << text;
  }
}

TEST(RecipeTest, SaysWhatIsWrongAboutTokens) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"tokenizer: {pad_to_multiple_of: -1}\n", "pad_to_multiple_of"},
      {"tokenizer: {pad_to_multiple_of: x}\n", "pad_to_multiple_of"},
      {"tokenizer: {tokens: [a]}\n", "tokens"},
      {"tokenizer: {tokens: {a: zero}}\n", "source and force"},
      {"tokenizer: {tokens: {a: {sorce: b}}}\n", "sorce"},
      {"tokenizer: {tokens: {a: {source: b, force: 2}}}\n", "force"},
      {"tokenizer: {tokens: {a: {}, a: {}}}\n", "twice"},
      {"tokenizer: {tokens: {a: {source: {kind: one}}}}\n", "kind"},
      {"tokenizer: {tokens: {a: {source: {kind: model_token, model: a}}}}\n",
       "token_id"},
      {"tokenizer: {tokens: {a: {source: {kind: model_token, model: a, "
       "token: b, token_id: 1}}}}\n",
       "token_id"},
      {"chat_template: chatlm\n", "chatml, exaone"},
  };
  for (const auto& [text, named] : cases) {
    const auto recipes = Parse(kLinear + text);
    ASSERT_FALSE(recipes.ok()) << text;
    EXPECT_THAT(std::string(recipes.status().message()), HasSubstr(named));
  }
}

TEST(RecipeTest, UnknownKeysAreOnlyNamedWhenAskedFor) {
  std::vector<std::string> warnings;
  const auto recipes = ParseRecipe(
      "merge_method: linear\nmodels: [{model: a, note: x}]\nextra: 1\n",
      "r.yml", UnknownKeys::kWarn, warnings);
  ASSERT_TRUE(recipes.ok()) << recipes.status();
  EXPECT_THAT(warnings, ::testing::UnorderedElementsAre(HasSubstr("note"),
                                                        HasSubstr("extra")));
}

TEST(LayerNamesTest, FindsTheLayer) {
  const auto llama = ParseLayerName("model.layers.12.mlp.up_proj.weight");
  ASSERT_TRUE(llama.has_value());
  EXPECT_EQ(llama->stack, "model.layers");
  EXPECT_EQ(llama->layer, 12);
  EXPECT_EQ(llama->Join(3), "model.layers.3.mlp.up_proj.weight");
  EXPECT_EQ(ParseLayerName("transformer.h.0.ln_1.bias")->rest, "ln_1.bias");
  EXPECT_FALSE(ParseLayerName("lm_head.weight").has_value());
}

TEST(OutputConfigTest, SetsTypeAndLayers) {
  const auto config = MakeOutputConfig(
      R"({"num_hidden_layers": 2, "layer_types": ["a", "b"], "x": 1})", "m",
      "float16", 3);
  ASSERT_TRUE(config.ok());
  EXPECT_THAT(*config, HasSubstr("\"num_hidden_layers\": 3"));
  EXPECT_THAT(*config, HasSubstr("\"torch_dtype\": \"float16\""));
  EXPECT_EQ(std::count(config->begin(), config->end(), 'b') >= 2, true);
  EXPECT_FALSE(MakeOutputConfig("[]", "m", "", -1).ok());
}

}  // namespace
}  // namespace cairn
