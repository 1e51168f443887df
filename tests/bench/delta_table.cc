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
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/codec/delta_codec.h"
#include "core/codec/element_order.h"
#include "core/delta/delta_pack.h"
#include "core/delta/low_rank_steps.h"
#include "core/tensor/checkpoint.h"
#include "core/tensor/dtype.h"

namespace cairn {
namespace {

constexpr int kRounds = 5;

struct Matrix {
  DType dtype;
  size_t rows;
  size_t columns;
  std::vector<float> values;  // as its dtype has them
};
using Weights = std::vector<Matrix>;

std::string Packed(const Matrix& matrix) {
  std::string bytes(
      matrix.values.size() * static_cast<size_t>(DTypeBits(matrix.dtype) / 8),
      '\0');
  FromFloats(matrix.dtype, matrix.values, absl::MakeSpan(bytes));
  return bytes;
}

void Round(Matrix& matrix) {
  ToFloats(matrix.dtype, Packed(matrix), absl::MakeSpan(matrix.values));
}

// A few million normal numbers, made once: drawing them costs more than all
// that is measured.
class Normals {
 public:
  Normals() : pool_(size_t{1} << 22) {
    std::normal_distribution<float> normal;
    for (float& value : pool_) value = normal(random_);
  }
  float Next() { return pool_[random_() & (pool_.size() - 1)]; }
  double Uniform() {
    return static_cast<double>(random_()) /
           static_cast<double>(std::mt19937::max());
  }

 private:
  std::mt19937 random_{1};
  std::vector<float> pool_;
};

// Matrices of a transformer with scales of their own, and norms around 1.
Weights MakeWeights(DType dtype, Normals& normals) {
  Weights weights;
  for (const float scale : {0.045f, 0.02f, 0.012f, 0.03f, 0.02f, 0.008f}) {
    Matrix& matrix = weights.emplace_back(Matrix{dtype, 2048, 2048, {}});
    matrix.values.resize(matrix.rows * matrix.columns);
    for (float& value : matrix.values) value = scale * normals.Next();
    Matrix& norm = weights.emplace_back(Matrix{dtype, 1, 2048, {}});
    norm.values.resize(2048);
    for (float& value : norm.values) value = 1 + 0.1f * normals.Next();
  }
  for (Matrix& matrix : weights) Round(matrix);
  return weights;
}

absl::StatusOr<Weights> ReadWeights(const std::string& directory) {
  CAIRN_ASSIGN_OR_RETURN(Checkpoint checkpoint,
                         Checkpoint::OpenDirectory(directory));
  Weights weights;
  for (const CheckpointTensor& tensor : checkpoint.tensors()) {
    if (!IsNumeric(tensor.dtype) || tensor.elements() == 0) continue;
    Matrix& matrix = weights.emplace_back(
        Matrix{tensor.dtype, 1, static_cast<size_t>(tensor.elements()), {}});
    if (tensor.shape.size() == 2) {
      matrix.rows = static_cast<size_t>(tensor.shape[0]);
      matrix.columns = static_cast<size_t>(tensor.shape[1]);
    }
    matrix.values.resize(matrix.rows * matrix.columns);
    CAIRN_RETURN_IF_ERROR(
        checkpoint.ReadFloats(tensor.name, 0, absl::MakeSpan(matrix.values)));
  }
  return weights;
}

float Spread(const Matrix& matrix) {
  double sum = 0;
  for (const float value : matrix.values) sum += double{value} * value;
  return static_cast<float>(
      std::sqrt(sum / static_cast<double>(matrix.values.size())));
}

using Update = std::function<void(Matrix&, Normals&)>;

// Every weight moves; the change's norm is this part of the tensor's.
Update Dense(float change) {
  return [change](Matrix& matrix, Normals& normals) {
    const float scale = change * Spread(matrix);
    for (float& value : matrix.values) value += scale * normals.Next();
  };
}

// A part of the weights moves by about their own size.
Update Sparse(double density) {
  return [density](Matrix& matrix, Normals& normals) {
    const float scale = Spread(matrix);
    for (float& value : matrix.values) {
      if (normals.Uniform() < density) value += scale * normals.Next();
    }
  };
}

// One merge of updates of rank 16 into a matrix; none into a vector. Their
// factors are in BF16, as trainers write them.
LowRankSteps MakeMerge(const Matrix& matrix, int updates, float change,
                       Normals& normals) {
  constexpr int64_t kRank = 16;
  if (matrix.rows == 1) return {};
  std::vector<LowRankTerm> terms;
  for (int i = 0; i < updates; ++i) {
    Matrix left{DType::kBF16, matrix.rows, kRank, {}};
    Matrix right{DType::kBF16, kRank, matrix.columns, {}};
    for (Matrix* factor : {&left, &right}) {
      factor->values.resize(factor->rows * factor->columns);
      for (float& value : factor->values) value = normals.Next();
      Round(*factor);
    }
    terms.push_back({.coefficient = change * Spread(matrix) /
                                    std::sqrt(static_cast<float>(updates)),
                     .scale = 1 / std::sqrt(static_cast<float>(kRank)),
                     .rank = kRank,
                     .left = std::move(left.values),
                     .right = std::move(right.values)});
  }
  return {std::move(terms)};
}

std::string Merged(const Matrix& matrix, const LowRankSteps& steps) {
  std::string bytes = Packed(matrix);
  ApplySteps(steps, matrix.dtype, static_cast<int64_t>(matrix.columns), 0,
             absl::MakeSpan(bytes));
  return bytes;
}

// The sum of products of factors of rank 16 is added to every matrix.
Update LowRank(float change) {
  return [change](Matrix& matrix, Normals& normals) {
    ToFloats(matrix.dtype,
             Merged(matrix, MakeMerge(matrix, 1, change, normals)),
             absl::MakeSpan(matrix.values));
  };
}

// One step after the other, each rounded as a release is.
Update Steps(int steps, Update update) {
  return [steps, update](Matrix& matrix, Normals& normals) {
    for (int i = 0; i < steps; ++i) {
      update(matrix, normals);
      Round(matrix);
    }
  };
}

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
  Normals normals;
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
  Normals normals;
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
    Normals normals;
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
