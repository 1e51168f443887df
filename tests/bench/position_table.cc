// What listed positions take beside the entropy that bounds them, alone and
// with a sign each (a ternary update), and how fast one core codes them.
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "core/base/log.h"
#include "core/codec/position_codec.h"

namespace cairn {
namespace {

constexpr int64_t kElements = int64_t{1} << 24;
constexpr int kRounds = 5;

double ProcessorSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec) +
         1e-6 * static_cast<double>(usage.ru_utime.tv_usec);
}

std::vector<int64_t> AtRandom(double density, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::geometric_distribution<int64_t> gap(density);
  std::vector<int64_t> out;
  for (int64_t at = gap(random); at < kElements; at += 1 + gap(random)) {
    out.push_back(at);
  }
  return out;
}

// Coded blocks of all positions.
std::vector<std::string> Encode(const std::vector<int64_t>& all) {
  PositionEncoder encoder;
  std::vector<std::string> blocks;
  int64_t previous = -1;
  for (size_t at = 0; at < all.size(); at += kPositionBlock) {
    const auto block = absl::MakeConstSpan(all).subspan(at, kPositionBlock);
    encoder.Encode(previous, block, blocks.emplace_back());
    previous = block.back();
  }
  return blocks;
}

void Decode(const std::vector<std::string>& blocks,
            const std::vector<int64_t>& all) {
  PositionDecoder decoder;
  std::vector<int64_t> positions(kPositionBlock);
  int64_t previous = -1;
  size_t at = 0;
  for (const std::string& block : blocks) {
    const size_t n = std::min(kPositionBlock, all.size() - at);
    CAIRN_CHECK(decoder
                    .Decode(block, previous, kElements,
                            absl::MakeSpan(positions).subspan(0, n))
                    .ok());
    CAIRN_CHECK(std::equal(positions.begin(),
                           positions.begin() + static_cast<ptrdiff_t>(n),
                           all.begin() + static_cast<ptrdiff_t>(at)));
    previous = positions[n - 1];
    at += n;
  }
}

template <typename Work>
double Fastest(Work work) {
  double fastest = 1e9;
  for (int round = 0; round < kRounds; ++round) {
    const double begin = ProcessorSeconds();
    work();
    fastest = std::min(fastest, ProcessorSeconds() - begin);
  }
  return fastest;
}

void Row(double density) {
  const std::vector<int64_t> all = AtRandom(density, 1);
  const auto count = static_cast<double>(all.size());
  const double bound =
      PositionEntropyBits(static_cast<int64_t>(all.size()), kElements);
  const std::vector<std::string> blocks = Encode(all);
  double bits = 0;
  // Each block stands after its length, of at most three bytes.
  for (const std::string& block : blocks) {
    bits += 8.0 *
            static_cast<double>(block.size() + (block.size() < 16384 ? 2 : 3));
  }
  const double encode = Fastest([&] { Encode(all); });
  const double decode = Fastest([&] { Decode(blocks, all); });
  std::printf("| %g %% | %.2f | %.2f | %.4f | %.4f | %.0f | %.0f |\n",
              100 * density, bound / count, bits / count, bits / bound,
              (bits + count) / (bound + count), count / encode / 1e6,
              count / decode / 1e6);
}

}  // namespace
}  // namespace cairn

int main() {
  std::printf(
      "| density | bound, bits a position | coded | ratio | with a sign each | "
      "encode, M/s | decode, M/s |\n|---|---|---|---|---|---|---|\n");
  for (const double density :
       {0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5}) {
    cairn::Row(density);
  }
  return 0;
}
