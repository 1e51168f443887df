#include "core/update/checkpoint_delta.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <random>

#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/status_util.h"
#include "core/tensor/tensor_manifest.h"
#include "core/update/change_threshold.h"
#include "core/update/fingerprint.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

const std::string kBase = "sha256:" + std::string(64, 'b');

using Values = std::map<std::string, std::string>;

SharedSource MakeFile(const std::vector<TensorSpec>& specs,
                      const Values& values) {
  auto layout = LayOutSafetensors(specs, {{"format", "pt"}});
  EXPECT_TRUE(layout.ok()) << layout.status();
  std::string bytes = layout->header;
  for (const TensorEntry& entry : layout->tensors) {
    bytes += values.at(entry.name);
  }
  return MakeMemorySource(bytes);
}

Checkpoint MakeCheckpoint(const std::vector<TensorSpec>& specs,
                          const Values& values) {
  auto checkpoint =
      Checkpoint::Open({{"model.safetensors", MakeFile(specs, values)},
                        {"config.json", MakeMemorySource("{}")},
                        {"train.py", MakeMemorySource("print()")}});
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  return *std::move(checkpoint);
}

// 60 tensors of a small model, as many dtypes as can be merged.
class CheckpointDeltaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ =
        ::testing::TempDir() + "/checkpoint_delta_" +
        ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_ + "/out");
    path_ = directory_ + "/" + kUpdateFile;
    for (int layer = 0; layer < 20; ++layer) {
      for (const char* part : {"mlp.up_proj", "mlp.down_proj", "norm"}) {
        const bool is_norm = std::string(part) == "norm";
        Add("model.layers." + std::to_string(layer) + "." + part + ".weight",
            layer == 3 ? DType::kF32 : DType::kBF16,
            is_norm ? std::vector<int64_t>{96} : std::vector<int64_t>{96, 128});
      }
    }
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  void Add(const std::string& name, DType dtype, std::vector<int64_t> shape) {
    TensorSpec spec{.name = name, .dtype = dtype, .shape = std::move(shape)};
    std::vector<float> numbers(static_cast<size_t>(spec.elements()));
    for (float& number : numbers) {
      number = std::normal_distribution<float>(0.0F, 0.1F)(random_);
    }
    std::string bytes(static_cast<size_t>(spec.size_bytes()), '\0');
    FromFloats(dtype, numbers, absl::MakeSpan(&bytes[0], bytes.size()));
    base_[name] = bytes;
    specs_.push_back(spec);
  }

  // Changes a share of all elements by a little.
  Values Tuned(double share) {
    Values tuned = base_;
    for (const TensorSpec& spec : specs_) {
      const auto width = static_cast<size_t>(DTypeBits(spec.dtype) / 8);
      std::string& bytes = tuned[spec.name];
      for (size_t at = 0; at < bytes.size(); at += width) {
        if (std::uniform_real_distribution<>(0, 1)(random_) < share) {
          bytes[at] ^= static_cast<char>(1 + random_() % 7);
        }
      }
    }
    return tuned;
  }

  // Writes the delta, expands it again and compares with the tuned checkpoint.
  CheckpointDelta RoundTrip(const Values& tuned,
                            const CheckpointDeltaOptions& options) {
    const Checkpoint base = MakeCheckpoint(specs_, base_);
    auto delta = WriteCheckpointDelta(base, MakeCheckpoint(specs_, tuned),
                                      path_, options);
    EXPECT_TRUE(delta.ok()) << delta.status();
    if (!delta.ok()) return {};
    auto update = OpenUpdateDirectory(directory_);
    EXPECT_TRUE(update.ok()) << update.status();
    if (!update.ok()) return {};
    EXPECT_EQ((*update)->encoding(), delta->encoding);
    auto manifest = MakeTensorManifest(base);
    EXPECT_TRUE(CheckAgainstBase(**update, *manifest, kBase).ok());
    EXPECT_TRUE(ExpandUpdate(base, **update, directory_ + "/out").ok());
    auto out = Checkpoint::OpenDirectory(directory_ + "/out");
    EXPECT_TRUE(out.ok()) << out.status();
    for (const auto& [name, bytes] : tuned) {
      std::string got(bytes.size(), '\0');
      EXPECT_TRUE(
          out->ReadBytes(name, 0, absl::MakeSpan(&got[0], got.size())).ok());
      EXPECT_TRUE(got == bytes) << name;
    }
    EXPECT_EQ(*ReadAll(*out->files().at("model.safetensors"), 1 << 24),
              *ReadAll(*MakeFile(specs_, tuned), 1 << 24));
    return *delta;
  }

  // Reads a tensor of the written update in any pieces.
  void ExpectAnyPieces() {
    auto update = OpenUpdateDirectory(directory_);
    ASSERT_TRUE(update.ok());
    const std::string name = "model.layers.4.mlp.up_proj.weight";
    const auto base = MakeMemorySource(base_[name]);
    const auto read = [&](size_t first, size_t count) {
      std::string bytes(2 * count, '.');
      EXPECT_TRUE((*update)
                      ->ReadTuned(name, *base, static_cast<int64_t>(first),
                                  absl::MakeSpan(&bytes[0], bytes.size()))
                      .ok());
      return bytes;
    };
    const size_t elements = base_[name].size() / 2;
    const std::string whole = read(0, elements);
    for (int round = 0; round < 200; ++round) {
      const size_t first = random_() % elements;
      const size_t count = random_() % (elements - first + 1);
      ASSERT_TRUE(read(first, count) == whole.substr(2 * first, 2 * count))
          << first << " + " << count;
    }
    std::string past(4, '\0');
    EXPECT_EQ((*update)
                  ->ReadTuned(name, *base, static_cast<int64_t>(elements) - 1,
                              absl::MakeSpan(&past[0], 4))
                  .code(),
              absl::StatusCode::kOutOfRange);
    EXPECT_EQ((*update)
                  ->ReadTuned(name, *MakeMemorySource("short"), 0,
                              absl::MakeSpan(&past[0], 4))
                  .code(),
              absl::StatusCode::kInvalidArgument);
  }

  std::mt19937 random_{7};
  std::string directory_;
  std::string path_;
  std::vector<TensorSpec> specs_;
  Values base_;
};

TEST_F(CheckpointDeltaTest, SparseGivesBackEveryBitForLittle) {
  const CheckpointDelta delta = RoundTrip(Tuned(0.005), {.base_digest = kBase});
  EXPECT_EQ(delta.encoding, v1::Encoding::SPARSE);
  int64_t dense = 0;
  for (const TensorSpec& spec : specs_) dense += 2 * spec.elements();
  EXPECT_LT(static_cast<double>(delta.size_bytes),
            0.0115 * static_cast<double>(dense));
}

TEST_F(CheckpointDeltaTest, DenseIsChosenWhenMuchChanged) {
  const CheckpointDelta delta = RoundTrip(Tuned(0.9), {.base_digest = kBase});
  EXPECT_EQ(delta.encoding, v1::Encoding::DENSE);
}

TEST_F(CheckpointDeltaTest, EncodingsCanBeAskedFor) {
  const Values tuned = Tuned(0.3);
  EXPECT_EQ(
      RoundTrip(tuned, {.base_digest = kBase, .encoding = v1::Encoding::SPARSE})
          .encoding,
      v1::Encoding::SPARSE);
  EXPECT_EQ(
      RoundTrip(tuned, {.base_digest = kBase, .encoding = v1::Encoding::DENSE})
          .encoding,
      v1::Encoding::DENSE);
}

TEST_F(CheckpointDeltaTest, DensityKeepsTheLargestChanges) {
  const Checkpoint base = MakeCheckpoint(specs_, base_);
  const Checkpoint tuned = MakeCheckpoint(specs_, Tuned(0.3));
  std::vector<float> changes;
  int64_t elements = 0;
  for (const TensorSpec& spec : specs_) {
    std::vector<float> a(static_cast<size_t>(spec.elements()));
    std::vector<float> b(a.size());
    ASSERT_TRUE(base.ReadFloats(spec.name, 0, absl::MakeSpan(a)).ok());
    ASSERT_TRUE(tuned.ReadFloats(spec.name, 0, absl::MakeSpan(b)).ok());
    for (size_t i = 0; i < a.size(); ++i) {
      changes.push_back(std::fabs(b[i] - a[i]));
    }
    elements += spec.elements();
  }
  std::sort(changes.rbegin(), changes.rend());
  auto delta = WriteCheckpointDelta(base, tuned, path_,
                                    {.base_digest = kBase, .density = 0.01});
  ASSERT_TRUE(delta.ok()) << delta.status();
  const auto kept =
      static_cast<size_t>(std::llround(0.01 * static_cast<double>(elements)));
  EXPECT_EQ(delta->changed_elements, static_cast<int64_t>(kept));
  double want = 0.0;
  for (size_t i = 0; i < kept; ++i) {
    want += static_cast<double>(changes[i]) * changes[i];
  }
  auto update = OpenUpdateDirectory(directory_);
  ASSERT_TRUE(update.ok()) << update.status();
  double square = 0.0;
  for (const TouchedTensor& tensor : (*update)->touched()) {
    auto norm =
        (*update)->DeltaNorm(tensor.name, **base.OpenTensor(tensor.name));
    ASSERT_TRUE(norm.ok()) << norm.status();
    square += *norm * *norm;
  }
  EXPECT_NEAR(square, want, 1e-9 * want);
}

TEST_F(CheckpointDeltaTest, TunedTensorsAreTheSameInAnyPieces) {
  for (const auto encoding : {v1::Encoding::SPARSE, v1::Encoding::DENSE}) {
    RoundTrip(Tuned(0.4), {.base_digest = kBase, .encoding = encoding});
    ExpectAnyPieces();
  }
}
TEST_F(CheckpointDeltaTest, FindsValuesThatAreNotFinite) {
  const Checkpoint base = MakeCheckpoint(specs_, base_);
  for (auto encoding : {v1::Encoding::SPARSE, v1::Encoding::DENSE}) {
    Values tuned = base_;
    std::string& bytes = tuned["model.layers.7.norm.weight"];
    bytes[4] = '\xc0';
    bytes[5] = '\x7f';
    RoundTrip(tuned, {.base_digest = kBase, .encoding = encoding});
    auto update = OpenUpdateDirectory(directory_);
    ASSERT_TRUE(update.ok());
    // The base is needed to see what a dense update gives.
    const auto open =
        [&](const TouchedTensor& tensor) -> absl::StatusOr<BaseTensor> {
      return BaseTensor{.dtype = *tensor.dtype,
                        .bytes = *base.OpenTensor(tensor.name)};
    };
    const absl::Status status = encoding == v1::Encoding::SPARSE
                                    ? (*update)->CheckFinite()
                                    : TakeFingerprint(**update, open).status();
    EXPECT_EQ(GetReason(status)->code, "NON_FINITE");
    EXPECT_EQ(GetReason(status)->details["tensor"],
              "model.layers.7.norm.weight");
  }
}

TEST_F(CheckpointDeltaTest, BytesDoNotDependOnThreads) {
  const Checkpoint base = MakeCheckpoint(specs_, base_);
  const Values tuned = Tuned(0.3);
  const Checkpoint changed = MakeCheckpoint(specs_, tuned);
  const std::vector<CheckpointDeltaOptions> all = {
      {.base_digest = kBase, .encoding = v1::Encoding::DENSE},
      {.base_digest = kBase, .encoding = v1::Encoding::SPARSE},
      {.base_digest = kBase, .density = 0.05}};
  for (size_t i = 0; i < all.size(); ++i) {
    std::vector<std::string> files;
    std::vector<int64_t> kept;
    for (const int threads : {1, 2, 7}) {
      CheckpointDeltaOptions options = all[i];
      options.threads = threads;
      const auto delta = WriteCheckpointDelta(base, changed, path_, options);
      ASSERT_TRUE(delta.ok()) << delta.status();
      kept.push_back(delta->changed_elements);
      files.push_back(*ReadFile(path_));
    }
    EXPECT_EQ(files[0], files[1]) << i;
    EXPECT_EQ(files[0], files[2]) << i;
    EXPECT_THAT(kept, ::testing::Each(kept[0])) << i;
  }
}

TEST_F(CheckpointDeltaTest, DenseTakesLittleWhereLittleChanged) {
  Values tuned = base_;
  int64_t dense = 0;
  for (const TensorSpec& spec : specs_) {
    std::vector<float> numbers(static_cast<size_t>(spec.elements()));
    std::string& bytes = tuned[spec.name];
    ToFloats(spec.dtype, bytes, absl::MakeSpan(numbers));
    for (float& number : numbers) {
      number += std::normal_distribution<float>(0.0F, 0.0005F)(random_);
    }
    FromFloats(spec.dtype, numbers, absl::MakeSpan(&bytes[0], bytes.size()));
    dense += spec.size_bytes();
  }
  const CheckpointDelta delta = RoundTrip(tuned, {.base_digest = kBase});
  EXPECT_EQ(delta.encoding, v1::Encoding::DENSE);
  EXPECT_LT(delta.size_bytes, dense / 3);
}

TEST_F(CheckpointDeltaTest, RefusesWhatDoesNotFitTheBase) {
  const Checkpoint base = MakeCheckpoint(specs_, base_);
  auto reason = [&](const std::vector<TensorSpec>& specs,
                    const Values& values) {
    auto delta = WriteCheckpointDelta(base, MakeCheckpoint(specs, values),
                                      path_, {.base_digest = kBase});
    EXPECT_FALSE(delta.ok());
    auto found = GetReason(delta.status());
    return found.has_value() ? found->code
                             : std::string(delta.status().ToString());
  };
  auto specs = specs_;
  Values values = base_;
  specs[5].name = "extra";
  values["extra"] = values[specs_[5].name];
  EXPECT_EQ(reason(specs, values), "UNKNOWN_TENSOR");
  specs = specs_;
  std::swap(specs[0].shape[0], specs[0].shape[1]);
  EXPECT_EQ(reason(specs, base_), "SHAPE_MISMATCH");
  specs = specs_;
  specs[0].dtype = DType::kF16;
  EXPECT_EQ(reason(specs, base_), "DTYPE_MISMATCH");
  EXPECT_THAT(reason(specs_, base_), HasSubstr("nothing is changed"));
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(CheckpointDeltaTest, RefusesAnotherBase) {
  RoundTrip(Tuned(0.01), {.base_digest = kBase});
  auto update = OpenUpdateDirectory(directory_);
  ASSERT_TRUE(update.ok());
  auto manifest = MakeTensorManifest(MakeCheckpoint(specs_, base_));
  absl::Status status =
      CheckAgainstBase(**update, *manifest, "sha256:" + std::string(64, 'c'));
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetReason(status)->code, "BASE_DIGEST_MISMATCH");
}

TEST(ChangeThresholdTest, KeepsExactlyTheLargestAndOfEqualTheEarlier) {
  std::mt19937 random(3);
  for (int64_t kept : {1, 10, 500, 1999}) {
    std::vector<float> values(2000);
    for (float& v : values) v = static_cast<float>(1 + random() % 50) / 7.0F;
    ChangeThreshold threshold(kept);
    while (!threshold.done()) {
      threshold.Count(values);
      threshold.EndPass();
    }
    std::vector<size_t> order(values.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return values[a] > values[b]; });
    std::vector<bool> want(values.size());
    for (size_t i = 0; i < static_cast<size_t>(kept); ++i) {
      want[order[i]] = true;
    }
    for (size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(threshold.Keep(values[i]), want[i]) << kept << " at " << i;
    }
  }
}

}  // namespace
}  // namespace cairn
