#include "core/base/digest.h"

#include <gtest/gtest.h>

#include <string>

namespace cairn {
namespace {

TEST(DigestTest, MatchesPublishedVectors) {
  EXPECT_EQ(Digest::Of("").hex(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Digest::Of("abc").hex(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(DigestTest, ParsesWithAndWithoutPrefix) {
  Digest digest = Digest::Of("x");
  EXPECT_EQ(*Digest::Parse(digest.hex()), digest);
  EXPECT_EQ(*Digest::Parse(digest.prefixed()), digest);
}

TEST(DigestTest, RefusesOtherText) {
  for (const char* text :
       {"", "sha256:", "abc",
        "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
        "g3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}) {
    EXPECT_EQ(Digest::Parse(text).status().code(),
              absl::StatusCode::kInvalidArgument)
        << text;
  }
}

TEST(DigestTest, HasherStartsAnewAfterFinish) {
  Hasher hasher;
  hasher.Update("ab");
  hasher.Update("c");
  EXPECT_EQ(hasher.Finish(), Digest::Of("abc"));
  EXPECT_EQ(hasher.Finish(), Digest::Of(""));
}

TEST(DigestTest, GitBlobIdIsGits) {
  Hasher hasher = GitBlobHasher(6);
  hasher.Update("hello\n");
  EXPECT_EQ(hasher.FinishHex(), "ce013625030ba8dba906f756967f9e9ca394464a");
}

TEST(DigestTest, Crc32cMatchesRfc3720) {
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aaU);
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62a8ab43U);
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283U);
  EXPECT_EQ(Crc32c("6789", Crc32c("12345")), 0xe3069283U);
}

TEST(DigestTest, Crc32cIsTheSameInPiecesOfAnySize) {
  const std::string bytes = RandomBytes(100'003);
  for (size_t size : {4095, 12'287, 12'288, 12'289, 24'583, 100'003}) {
    const absl::string_view whole = absl::string_view(bytes).substr(0, size);
    uint32_t byte_by_byte = 0;
    for (size_t i = 0; i < size; ++i) {
      byte_by_byte = Crc32c(whole.substr(i, 1), byte_by_byte);
    }
    EXPECT_EQ(Crc32c(whole), byte_by_byte) << size;
    EXPECT_EQ(Crc32c(whole.substr(777), Crc32c(whole.substr(0, 777))),
              byte_by_byte)
        << size;
  }
}

TEST(DigestTest, HexRoundTrips) {
  std::string raw = RandomBytes(33);
  EXPECT_EQ(*FromHex(ToHex(raw)), raw);
  EXPECT_FALSE(FromHex("abc").ok());
  EXPECT_FALSE(FromHex("zz").ok());
}

}  // namespace
}  // namespace cairn
