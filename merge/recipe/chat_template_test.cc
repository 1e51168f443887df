#include "merge/recipe/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>

#include "core/tensor/byte_source.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

FileMap Files(const std::map<std::string, std::string>& texts) {
  FileMap files;
  for (const auto& [path, text] : texts) files[path] = MakeMemorySource(text);
  return files;
}

TEST(ChatTemplateTest, IsReadWhereverATokenizerHasIt) {
  const std::string config = R"({"chat_template":"config"})";
  EXPECT_EQ(*ReadChatTemplate({}), "");
  EXPECT_EQ(*ReadChatTemplate(Files({{"tokenizer_config.json", "{]"}})), "");
  EXPECT_EQ(*ReadChatTemplate(Files({{"tokenizer_config.json", config}})),
            "config");
  EXPECT_EQ(*ReadChatTemplate(Files({{"tokenizer_config.json", config},
                                     {"chat_template.jinja", "file"}})),
            "file");
  EXPECT_EQ(*ReadChatTemplate(Files({{"tokenizer_config.json",
                                      R"({"chat_template":[
                                    {"name":"tools","template":"t"},
                                    {"name":"default","template":"d"}]})"}})),
            "d");
}

TEST(ChatTemplateTest, AutoTakesWhatMostModelsHave) {
  const std::map<std::string, std::string> texts = {
      {"a", "one"}, {"b", " two\n"}, {"c", "two"}, {"d", ""}};
  const SourceOpener open = [&](const std::string& name) {
    return absl::StatusOr<std::shared_ptr<ModelSource>>(
        std::make_shared<ModelSource>(ModelSource::Planned(
            name, {}, "{}", Files({{"chat_template.jinja", texts.at(name)}}))));
  };
  Recipe recipe;
  recipe.base_model = "a";
  const auto merge = [&](std::initializer_list<const char*> models) {
    recipe.models.clear();
    for (const char* model : models) recipe.models.emplace_back().model = model;
    return *ChooseChatTemplate(recipe, open);
  };
  EXPECT_EQ(merge({"b", "c", "d"}), "") << "nothing is asked for";
  recipe.chat_template = "auto";
  EXPECT_EQ(merge({"b", "c", "d"}), "two");
  EXPECT_EQ(merge({"b"}), "one") << "the first of as many";
  recipe.base_model = "d";
  EXPECT_EQ(merge({"d"}), "");
  recipe.chat_template = "{{ messages[0]['content'] }}";
  EXPECT_EQ(merge({"b", "c"}), recipe.chat_template);
  recipe.chat_template = "chatml";
  EXPECT_THAT(merge({"b"}), HasSubstr("'<|im_start|>assistant\\n'"));
}

TEST(ChatTemplateTest, IsSetInOnePlace) {
  const std::string config = R"({"x":1,"chat_template":"old"})";
  std::map<std::string, std::string> changed;
  ASSERT_TRUE(SetChatTemplate("new", {}, changed).ok());
  EXPECT_EQ(
      changed,
      (std::map<std::string, std::string>{{"chat_template.jinja", "new"}}));
  ASSERT_TRUE(SetChatTemplate("new", Files({{"tokenizer_config.json", config}}),
                              changed)
                  .ok());
  EXPECT_THAT(changed.at("tokenizer_config.json"), Not(HasSubstr("old")));
  EXPECT_THAT(changed.at("tokenizer_config.json"), HasSubstr("\"x\""));
  changed["tokenizer_config.json"] = R"({"y":2,"chat_template":"old"})";
  ASSERT_TRUE(SetChatTemplate("new", Files({{"tokenizer_config.json", config}}),
                              changed)
                  .ok());
  EXPECT_THAT(changed.at("tokenizer_config.json"), HasSubstr("\"y\""))
      << "what is already changed is kept";
}

}  // namespace
}  // namespace cairn
