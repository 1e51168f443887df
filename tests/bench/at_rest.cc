// Makes checkpoints for the benchmarks of keeping, and measures a blob store
// that packs: size at rest and speed of random reads.
//
//   at_rest make DIR GIGABYTES SHARDS   a BF16 checkpoint of normal weights
//   at_rest measure CHECKPOINT WORK     JSON on standard output

#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/types/span.h"
#include "core/base/status_macros.h"
#include "core/tensor/checkpoint.h"
#include "core/tensor/safetensors.h"
#include "storage/fs/fs_blob_store.h"

namespace cairn {
namespace {

constexpr int64_t kWidth = 2048;
constexpr int64_t kTensorBytes = 64 << 20;
constexpr int kTable = 1 << 16;

// Draws of a normal distribution as BF16, to pick from.
std::vector<uint16_t> NormalTable() {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0F, 0.02F);
  std::vector<uint16_t> table(kTable);
  for (uint16_t& out : table) {
    const float value = normal(random);
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    out = static_cast<uint16_t>(bits >> 16);
  }
  return table;
}

absl::Status MakeShard(const std::string& path, int first, int count,
                       const std::vector<uint16_t>& table,
                       nlohmann::json& map) {
  std::vector<TensorSpec> specs;
  for (int i = first; i < first + count; ++i) {
    specs.push_back({.name = absl::StrCat("model.layers.", i, ".weight"),
                     .dtype = DType::kBF16,
                     .shape = {kTensorBytes / 2 / kWidth, kWidth}});
    map[specs.back().name] = std::filesystem::path(path).filename().string();
  }
  CAIRN_ASSIGN_OR_RETURN(
      auto writer, SafetensorsWriter::Create(path, specs, {{"format", "pt"}}));
  std::mt19937_64 random(static_cast<uint64_t>(first));
  std::vector<uint16_t> tile(1 << 20);
  for (const TensorSpec& spec : specs) {
    for (int64_t at = 0; at < kTensorBytes;
         at += static_cast<int64_t>(tile.size()) * 2) {
      for (size_t i = 0; i < tile.size(); i += 4) {
        const uint64_t bits = random();
        for (size_t k = 0; k < 4; ++k) {
          tile[i + k] = table[(bits >> (16 * k)) & (kTable - 1)];
        }
      }
      CAIRN_RETURN_IF_ERROR(writer->Write(
          spec.name, at,
          absl::MakeConstSpan(reinterpret_cast<const char*>(tile.data()),
                              tile.size() * 2)));
    }
  }
  return std::move(*writer).Finish();
}

absl::Status Make(const std::string& directory, double gigabytes, int shards) {
  std::filesystem::create_directories(directory);
  const std::vector<uint16_t> table = NormalTable();
  const int tensors = static_cast<int>(
      std::lround(gigabytes * 1e9 / static_cast<double>(kTensorBytes)));
  nlohmann::json map = nlohmann::json::object();
  for (int i = 0; i < shards; ++i) {
    const int first = tensors * i / shards;
    const std::string name =
        shards == 1
            ? "model.safetensors"
            : absl::StrFormat("model-%05d-of-%05d.safetensors", i + 1, shards);
    CAIRN_RETURN_IF_ERROR(MakeShard(directory + "/" + name, first,
                                    tensors * (i + 1) / shards - first, table,
                                    map));
  }
  if (shards > 1) {
    std::ofstream(directory + "/model.safetensors.index.json")
        << nlohmann::json{{"metadata", nlohmann::json::object()},
                          {"weight_map", map}};
  }
  std::ofstream(directory + "/config.json")
      << R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama"})";
  return absl::OkStatus();
}

double ThreadSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) +
         1e-9 * static_cast<double>(now.tv_nsec);
}

// Plain gigabytes a second of one core in random reads.
absl::StatusOr<double> RandomReads(const FsBlobStore& store,
                                   const std::vector<Digest>& blobs,
                                   int64_t read_bytes, int64_t total_bytes) {
  std::vector<std::unique_ptr<ByteSource>> sources;
  for (const Digest& digest : blobs) {
    CAIRN_ASSIGN_OR_RETURN(auto source, store.Open(digest));
    sources.push_back(std::move(source));
  }
  std::mt19937_64 random(5);
  std::vector<char> out(static_cast<size_t>(read_bytes));
  const double begin = ThreadSeconds();
  for (int64_t done = 0; done < total_bytes; done += read_bytes) {
    const ByteSource& source = *sources[random() % sources.size()];
    const auto offset = static_cast<int64_t>(
        random() % static_cast<uint64_t>(source.size() - read_bytes + 1));
    CAIRN_RETURN_IF_ERROR(source.ReadAt(offset, absl::MakeSpan(out)));
  }
  return static_cast<double>(total_bytes) / 1e9 / (ThreadSeconds() - begin);
}

absl::Status Measure(const std::string& checkpoint, const std::string& work) {
  CAIRN_ASSIGN_OR_RETURN(auto opened, Checkpoint::OpenDirectory(checkpoint));
  CAIRN_ASSIGN_OR_RETURN(auto store, FsBlobStore::Open(work));
  std::vector<Digest> blobs;
  for (const CheckpointTensor& tensor : opened.tensors()) {
    CAIRN_ASSIGN_OR_RETURN(auto source, opened.OpenTensor(tensor.name));
    CAIRN_ASSIGN_OR_RETURN(Digest digest, store->PutFrom(*source));
    blobs.push_back(digest);
  }
  nlohmann::ordered_json out;
  int64_t plain = 0;
  int64_t stored = 0;
  auto read = [&](const char* form) -> absl::Status {
    for (int64_t kib : {64, 256, 1024}) {
      CAIRN_ASSIGN_OR_RETURN(double speed, RandomReads(*store, blobs, kib << 10,
                                                       int64_t{1} << 30));
      out[absl::StrCat(form, "_read_", kib, "KiB_GBps_core")] = speed;
    }
    return absl::OkStatus();
  };
  CAIRN_RETURN_IF_ERROR(read("plain"));
  const double begin = ThreadSeconds();
  for (const Digest& digest : blobs) {
    CAIRN_RETURN_IF_ERROR(store->Pack(digest, [] { return true; }).status());
    CAIRN_ASSIGN_OR_RETURN(BlobStat stat, store->Stat(digest));
    plain += stat.size_bytes;
    stored += stat.stored_bytes;
  }
  out["pack_GBps_core"] =
      static_cast<double>(plain) / 1e9 / (ThreadSeconds() - begin);
  out["plain_bytes"] = plain;
  out["stored_bytes"] = stored;
  out["at_rest_ratio"] =
      static_cast<double>(stored) / static_cast<double>(plain);
  CAIRN_RETURN_IF_ERROR(read("packed"));
  std::puts(out.dump().c_str());
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  absl::Status status = absl::InvalidArgumentError(
      "at_rest make DIR GIGABYTES SHARDS | "
      "measure CHECKPOINT WORK");
  if (what == "make" && argc == 5) {
    status = Make(argv[2], std::atof(argv[3]), std::atoi(argv[4]));
  } else if (what == "measure" && argc == 4) {
    status = Measure(argv[2], argv[3]);
  }
  if (status.ok()) return 0;
  std::fprintf(stderr, "at_rest: %s\n", status.ToString().c_str());
  return 1;
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) { return cairn::Main(argc, argv); }
