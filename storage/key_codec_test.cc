#include "storage/key_codec.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "absl/status/status.h"
#include "storage/metadata_store.h"

namespace cairn {
namespace {

std::string Key(absl::string_view a, absl::string_view b, uint64_t n) {
  return KeyWriter("t").String(a).String(b).Uint(n).Take();
}

TEST(KeyCodecTest, PartsComeBack) {
  const std::string odd("a\0\xff\x01", 4);
  const std::string key = Key(odd, "", UINT64_MAX);
  KeyReader reader(key);
  EXPECT_EQ(*reader.String(), "t");
  EXPECT_EQ(*reader.String(), odd);
  EXPECT_EQ(*reader.String(), "");
  EXPECT_EQ(*reader.Uint(), UINT64_MAX);
  EXPECT_TRUE(reader.done());
}

TEST(KeyCodecTest, OrderOfKeysIsOrderOfParts) {
  std::mt19937 random(7);
  auto text = [&] {
    std::string out;
    for (size_t n = random() % 4; n > 0; --n) {
      out.push_back("\0\x01\x02z\xff"[random() % 5]);
    }
    return out;
  };
  using Parts = std::tuple<std::string, std::string, uint64_t>;
  std::vector<Parts> parts;
  for (int i = 0; i < 300; ++i) {
    parts.emplace_back(text(), text(), random() % 3 << (random() % 60));
  }
  for (const auto& [a1, b1, n1] : parts) {
    for (const auto& [a2, b2, n2] : parts) {
      // std::string compares bytes as unsigned, as the stores do.
      EXPECT_EQ(Key(a1, b1, n1) < Key(a2, b2, n2),
                Parts(a1, b1, n1) < Parts(a2, b2, n2));
    }
  }
}

TEST(KeyCodecTest, PrefixOfPartsIsAScanOfItsChildrenOnly) {
  const std::string prefix = KeyWriter("t").String("ab").Take();
  const std::string end = PrefixEnd(prefix);
  auto inside = [&](const std::string& key) {
    return key >= prefix && key < end;
  };
  EXPECT_TRUE(inside(Key("ab", "c", 1)));
  EXPECT_FALSE(inside(Key("abc", "", 1)));
  EXPECT_FALSE(inside(Key("a", "bc", 1)));
}

TEST(KeyCodecTest, BrokenKeysAreDataLoss) {
  for (absl::string_view key :
       {absl::string_view("abc"), absl::string_view("a\0", 2),
        absl::string_view("a\0x\0\x01", 5), absl::string_view("")}) {
    KeyReader reader(key);
    EXPECT_TRUE(absl::IsDataLoss(reader.String().status()));
  }
  KeyReader reader("1234567");
  EXPECT_TRUE(absl::IsDataLoss(reader.Uint().status()));
}

TEST(PrefixEndTest, IsTheNextPrefix) {
  EXPECT_EQ(PrefixEnd("a"), "b");
  EXPECT_EQ(PrefixEnd("a\xff"), "b");
  EXPECT_EQ(PrefixEnd("\xff"), "");
  EXPECT_EQ(PrefixEnd(""), "");
}

}  // namespace
}  // namespace cairn
