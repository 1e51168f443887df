// What a release costs whoever holds another one: the size of its delta by the
// kind of update, beside the entropy that bounds it and what zstd makes of the
// XOR, and how fast one core encodes and decodes.
//
//   delta_table [BASE [TUNED]]   also over a checkpoint, and over what became
//                                of it
#include <sys/resource.h>
#include <zstd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "core/base/log.h"
#include "core/codec/delta_codec.h"
#include "core/codec/element_order.h"
#include "core/delta/delta_pack.h"
#include "core/delta/low_rank_steps.h"
#include "core/tensor/dtype.h"
#include "tests/bench/sample_updates.h"

namespace cairn {
namespace {

constexpr int kRounds = 5;

// Entropy in bytes of the distances given the base's exponent; 0 where the
// distances are too many to count.
double BoundBytes(const std::string& base, const std::string& tuned,
                  const ElementForm& form) {
  if (form.width != 2) return 0;
  static std::vector<uint32_t> counts;
  counts.assign(size_t{1} << 24, 0);
  for (size_t i = 0; i < base.size(); i += 2) {
    uint16_t before, after;
    std::memcpy(&before, &base[i], 2);
    std::memcpy(&after, &tuned[i], 2);
    const auto distance =
        static_cast<uint16_t>(PlaceOf(after) - PlaceOf(before));
    ++counts[size_t{ContextOf(before, form.exponent_bits)} << 16 | distance];
  }
  double bits = 0;
  for (size_t context = 0; context < 256; ++context) {
    const auto* of = counts.data() + (context << 16);
    double total = 0, spent = 0;
    for (size_t i = 0; i < 65536; ++i) {
      if (of[i] == 0) continue;
      total += of[i];
      spent -= of[i] * std::log2(static_cast<double>(of[i]));
    }
    if (total > 0) bits += spent + total * std::log2(total);
  }
  return bits / 8;
}

size_t ZstdOfXor(const std::string& base, const std::string& tuned) {
  std::string difference(base.size(), '\0');
  for (size_t i = 0; i < base.size(); ++i) {
    difference[i] = static_cast<char>(base[i] ^ tuned[i]);
  }
  std::string out(ZSTD_compressBound(base.size()), '\0');
  return ZSTD_compress(out.data(), out.size(), difference.data(),
                       difference.size(), 3);
}

double ProcessorSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         1e-6 * static_cast<double>(usage.ru_utime.tv_usec +
                                    usage.ru_stime.tv_usec);
}

struct Row {
  double plain = 0, coded = 0, bound = 0, zstd = 0;
  double encode_seconds = 0, decode_seconds = 0;
};

void Measure(const std::string& base, const std::string& tuned,
             const ElementForm& form, Row& row) {
  DeltaEncoder encoder;
  DeltaDecoder decoder;
  std::vector<std::string> blocks;
  std::string back(base.size(), '\0');
  double encode = 1e9, decode = 1e9;
  const auto block_at = [&](const std::string& bytes, size_t at) {
    return absl::Span<const char>(bytes).subspan(at, kDeltaBlockBytesMax);
  };
  for (int round = 0; round < kRounds; ++round) {
    blocks.assign((base.size() - 1) / kDeltaBlockBytesMax + 1, "");
    double begin = ProcessorSeconds();
    for (size_t b = 0; b < blocks.size(); ++b) {
      const size_t at = b * kDeltaBlockBytesMax;
      encoder.Encode(block_at(base, at), block_at(tuned, at), form, blocks[b]);
    }
    encode = std::min(encode, ProcessorSeconds() - begin);
    begin = ProcessorSeconds();
    for (size_t b = 0; b < blocks.size(); ++b) {
      const size_t at = b * kDeltaBlockBytesMax;
      const absl::Span<const char> before = block_at(base, at);
      CAIRN_CHECK(decoder
                      .Decode(blocks[b], before, form,
                              absl::MakeSpan(&back[at], before.size()))
                      .ok());
    }
    decode = std::min(decode, ProcessorSeconds() - begin);
    CAIRN_CHECK(back == tuned);
  }
  row.encode_seconds += encode;
  row.decode_seconds += decode;
  row.plain += static_cast<double>(base.size());
  for (const std::string& block : blocks) {
    row.coded += static_cast<double>(block.size());
  }
  row.bound += BoundBytes(base, tuned, form);
  row.zstd += static_cast<double>(ZstdOfXor(base, tuned));
}

double Run(const char* kind, const Weights& weights, const Update& update) {
  Normals normals(kUpdateSeed);
  Row row;
  for (const Matrix& matrix : weights) {
    Matrix tuned = matrix;
    update(tuned, normals);
    Measure(Packed(matrix), Packed(tuned), FormOf(matrix.dtype), row);
  }
  const auto percent = [&](double bytes) { return 100 * bytes / row.plain; };
  const bool has_bound = row.bound > 0;
  std::printf("%-30s %7.2f %% ", kind, percent(row.coded));
  if (has_bound) {
    std::printf("%7.2f %% %6.3f ", percent(row.bound), row.coded / row.bound);
  } else {
    std::printf("%9s %6s ", "-", "-");
  }
  std::printf("%7.2f %% %6.0f MB/s %6.0f MB/s %6.2f %6.2f\n", percent(row.zstd),
              row.plain / row.encode_seconds / 1e6,
              row.plain / row.decode_seconds / 1e6,
              row.encode_seconds / row.plain * 1e9,
              row.decode_seconds / row.plain * 1e9);
  std::fflush(stdout);
  return row.coded;
}

// The same updates sent as their factors; the merge is repeated to the bit, so
// that nothing is left to send beside them.
void RunFactors(const char* kind, const Weights& weights, int updates) {
  Normals normals(kUpdateSeed);
  double plain = 0, coded = 0, seconds = 0;
  for (const Matrix& matrix : weights) {
    const LowRankSteps steps = MakeMerge(matrix, updates, 0.005f, normals);
    PlaneEncoder planes;
    v1::DeltaTensor described;
    coded += static_cast<double>(EncodeSteps(steps, planes, described).size());
    const double begin = ProcessorSeconds();
    plain += static_cast<double>(Merged(matrix, steps).size());
    seconds += ProcessorSeconds() - begin;
  }
  std::printf("%-30s %7.2f %% %9s %6s %9s %11s %6.0f MB/s %6s %6.2f\n", kind,
              100 * coded / plain, "-", "-", "-", "-", plain / seconds / 1e6,
              "-", seconds / plain * 1e9);
  std::fflush(stdout);
}

void Table(const std::string& title, const Weights& weights) {
  std::printf("\n%s\n%-30s %9s %9s %6s %9s %11s %11s %13s\n", title.c_str(),
              "update", "delta", "bound", "ratio", "zstd(XOR)", "encode",
              "decode", "CPU s a GB");
  Run("relative change 0.1 %", weights, Dense(0.001f));
  Run("relative change 0.2 %", weights, Dense(0.002f));
  const double one = Run("relative change 0.5 %", weights, Dense(0.005f));
  Run("relative change 1 %", weights, Dense(0.01f));
  Run("sparse, 0.5 % of the weights", weights, Sparse(0.005));
  Run("LoRA of rank 16, 0.5 %", weights, LowRank(0.005f));
  RunFactors("  as its factors", weights, 1);
  RunFactors("  four LoRAs as their factors", weights, 4);
  const double four =
      Run("4 steps of 0.5 % in one delta", weights, Steps(4, Dense(0.005f)));
  std::printf("four steps in one delta are %.2f x one step; one by one %.2f\n",
              four / one, 4.0);
}

int Main(int argc, char** argv) {
  {
    Normals normals(kWeightSeed);
    Table("BF16, normal, each matrix with its scale",
          MakeWeights(DType::kBF16, normals));
    Table("F32, normal, each matrix with its scale",
          MakeWeights(DType::kF32, normals));
  }
  std::vector<Weights> given;
  for (int i = 1; i < argc; ++i) {
    auto weights = ReadWeights(argv[i]);
    if (!weights.ok()) {
      std::fprintf(stderr, "%s\n", weights.status().ToString().c_str());
      return 1;
    }
    given.push_back(*std::move(weights));
  }
  if (!given.empty()) Table(argv[1], given[0]);
  if (given.size() == 2 && given[0].size() == given[1].size()) {
    size_t next = 0;
    Run("what became of it", given[0], [&](Matrix& matrix, Normals&) {
      const Matrix& tuned = given[1][next++];
      CAIRN_CHECK(tuned.values.size() == matrix.values.size());
      matrix.values = tuned.values;
    });
  }
  return 0;
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) { return cairn::Main(argc, argv); }
