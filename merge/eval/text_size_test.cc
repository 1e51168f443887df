#include "merge/eval/text_size.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

TEST(CountCharactersTest, CountsCodePoints) {
  EXPECT_EQ(CountCharacters(""), 0);
  EXPECT_EQ(CountCharacters("abc"), 3);
  EXPECT_EQ(CountCharacters("é日🙂"), 3);
  EXPECT_EQ(CountCharacters("a\xFF\xE3\x81"), 4);
}

TEST(CountWordsTest, CountsFieldsAsPythonSplitsThem) {
  EXPECT_EQ(CountWords(""), 1);
  EXPECT_EQ(CountWords("one"), 1);
  EXPECT_EQ(CountWords("one  two\n\tthree"), 3);
  EXPECT_EQ(CountWords(" one "), 3);
  EXPECT_EQ(CountWords("a\u3000b\u00a0c\u2028d"), 4);
  EXPECT_EQ(CountWords("日本 語"), 2);
}

}  // namespace
}  // namespace cairn
