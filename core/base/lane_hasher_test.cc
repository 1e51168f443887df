#include "core/base/lane_hasher.h"

#include <gtest/gtest.h>

#include <array>
#include <random>
#include <string>
#include <vector>

namespace cairn {
namespace {

std::string SomeBytes(size_t count, std::mt19937::result_type seed) {
  std::mt19937 random(seed);
  std::string bytes(count, '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  return bytes;
}

TEST(LaneHasherTest, MatchesPublishedVectors) {
  LaneHasher hasher;
  EXPECT_EQ(hasher.Finish().hex(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  hasher.Update("abc");
  EXPECT_EQ(hasher.Finish().hex(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(LaneHasherTest, GivesTheDigestOfEveryLength) {
  const std::string bytes = SomeBytes(300, 1);
  for (size_t length = 0; length <= bytes.size(); ++length) {
    const absl::string_view part(bytes.data(), length);
    LaneHasher hasher;
    hasher.Update(part.substr(0, length / 3));
    hasher.Update(part.substr(length / 3));
    EXPECT_EQ(hasher.Finish(), Digest::Of(part)) << length;
  }
}

TEST(LaneHasherTest, HashesAnyNumberOfStreamsOfAnyLengthsTogether) {
  std::mt19937 random(7);
  for (size_t streams = 1; streams <= 11; ++streams) {
    std::vector<LaneHasher> hashers(streams);
    std::vector<std::string> whole(streams);
    for (int round = 0; round < 8; ++round) {
      std::vector<std::string> added;
      for (size_t s = 0; s < streams; ++s) {
        const size_t count = round % 2 == 0 ? 4096 : random() % 1000;
        added.push_back(SomeBytes(count, random()));
        whole[s] += added.back();
      }
      std::vector<LaneHasher::Part> parts;
      for (size_t s = 0; s < streams; ++s) {
        parts.push_back({&hashers[s], added[s]});
      }
      LaneHasher::UpdateAll(parts);
    }
    for (size_t s = 0; s < streams; ++s) {
      EXPECT_EQ(hashers[s].Finish(), Digest::Of(whole[s])) << streams;
    }
  }
}

TEST(LaneHasherTest, StartsAnewAfterFinish) {
  LaneHasher hasher;
  hasher.Update(SomeBytes(100, 3));
  (void)hasher.Finish();
  hasher.Update("abc");
  EXPECT_EQ(hasher.Finish(), Digest::Of("abc"));
}

}  // namespace
}  // namespace cairn
