#include "tests/support/small_world.h"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "core/base/log.h"
#include "tests/support/live_hub.h"
#include "tests/support/process.h"

namespace cairn::testing {
namespace {

namespace fs = std::filesystem;

constexpr int kWindow = 48;

uint64_t NextBits(uint64_t& state) {
  state = state * 6364136223846793005ULL + 1442695040888963407ULL;
  return state >> 33;
}

// A language of twelve words of its own letters; each word likes one follower,
// so that there is something to learn beyond the letters.
std::string MakeText(const std::string& language, uint64_t seed, size_t bytes) {
  const char first = language == "alpha" ? 'a' : 'n';
  uint64_t words_state = static_cast<uint64_t>(first);
  std::vector<std::string> words(12);
  for (std::string& word : words) {
    const uint64_t length = 3 + NextBits(words_state) % 4;
    for (uint64_t i = 0; i < length; ++i) {
      word += static_cast<char>(first +
                                static_cast<char>(NextBits(words_state) % 13));
    }
  }
  uint64_t state = seed;
  std::string text;
  size_t word = 0;
  while (text.size() < bytes) {
    const bool goes_on = NextBits(state) % 4 != 0;
    word = (goes_on ? word * 5 + 1 : NextBits(state)) % words.size();
    absl::StrAppend(&text, words[word], NextBits(state) % 8 == 0 ? ". " : " ");
  }
  text.resize(bytes);
  return text;
}

void WriteFile(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary);
  out << text;
  CAIRN_CHECK(out.good());
}

void WriteSuite(const std::string& dir, const std::string& language) {
  fs::create_directories(dir);
  uint64_t seed = 1000;
  for (const auto& [split, items] : std::vector<std::pair<std::string, int>>{
           {"search", 16}, {"gate", 96}, {"audit", 16}}) {
    const std::string text =
        MakeText(language, ++seed, static_cast<size_t>(items * kWindow));
    std::string lines;
    for (int i = 0; i < items; ++i) {
      std::vector<int> ids;
      for (char c : text.substr(static_cast<size_t>(i * kWindow), kWindow)) {
        ids.push_back(static_cast<unsigned char>(c));
      }
      absl::StrAppend(&lines, R"({"id": ")", split, "-", i,
                      R"(", "input_ids": [)", absl::StrJoin(ids, ", "), "]}\n");
    }
    WriteFile(absl::StrCat(dir, "/", split, ".jsonl"), lines);
  }
  WriteFile(absl::StrCat(dir, "/suite.yaml"),
            absl::StrCat("name: ", language,
                         "\nkind: perplexity\nmetric: perplexity\n"
                         "higher_is_better: false\n"
                         "description: held-out text of a made-up language\n"
                         "license: CC0-1.0\n"
                         "splits: {search: search.jsonl, gate: gate.jsonl, "
                         "audit: audit.jsonl}\n"));
}

void Train(const std::vector<std::string>& flags) {
  std::vector<std::string> argv = {ProgramPath("cairn-train")};
  argv.insert(argv.end(), flags.begin(), flags.end());
  for (const char* flag : {"--batch", "8", "--window", "48", "--seed", "5",
                           "--threads", "2", "--quiet"}) {
    argv.emplace_back(flag);
  }
  ProcessResult done = RunProcess(argv, {}, absl::Minutes(3));
  if (done.code != 0) CAIRN_LOG(kError, "cairn-train: ", done.err);
  CAIRN_CHECK(done.code == 0);
}

constexpr char kConfig[] = R"({
  "architectures": ["LlamaForCausalLM"], "model_type": "llama",
  "vocab_size": 257, "hidden_size": 48, "intermediate_size": 128,
  "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
  "max_position_embeddings": 64, "hidden_act": "silu", "rms_norm_eps": 1e-06,
  "rope_theta": 10000.0, "tie_word_embeddings": false, "eos_token_id": 256,
  "torch_dtype": "bfloat16"
}
)";

}  // namespace

SmallWorld::SmallWorld(std::string root) : root_(std::move(root)) {}

SmallWorld SmallWorld::Build(const std::string& root) {
  SmallWorld world(root);
  fs::create_directories(root);
  const std::string config = absl::StrCat(root, "/config.json");
  WriteFile(config, kConfig);
  for (const std::string& language : suites()) {
    WriteFile(absl::StrCat(root, "/", language, ".txt"),
              MakeText(language, 7, 40'000));
    WriteSuite(world.suite(language), language);
  }
  const std::string alpha = absl::StrCat(root, "/alpha.txt");
  const std::string beta = absl::StrCat(root, "/beta.txt");
  Train({"--method", "full", "--init-config", config, "--data", alpha, "--data",
         beta, "--steps", "60", "--lr", "4e-3", world.base()});
  for (const Update& update : updates()) {
    const std::string& own = update.claim == "alpha" ? alpha : beta;
    const std::string& other = update.claim == "alpha" ? beta : alpha;
    const bool is_sparse = absl::StrContains(update.name, "sparse");
    Train({"--method", is_sparse ? "sparse" : "lora", "--model", world.base(),
           "--data", own, "--data", absl::StrCat(other, ":0.3"), "--steps",
           "60", "--lr", "4e-3", world.update(update.name)});
  }
  return world;
}

std::string SmallWorld::base() const { return absl::StrCat(root_, "/base"); }

std::string SmallWorld::suite(const std::string& name) const {
  return absl::StrCat(root_, "/suites/", name);
}

std::string SmallWorld::update(const std::string& name) const {
  return absl::StrCat(root_, "/updates/", name);
}

const std::vector<std::string>& SmallWorld::suites() {
  static const auto* const kSuites =
      new std::vector<std::string>{"alpha", "beta"};
  return *kSuites;
}

const std::vector<SmallWorld::Update>& SmallWorld::updates() {
  static const auto* const kUpdates = new std::vector<Update>{
      {"alpha-lora", "alpha"}, {"beta-lora", "beta"}, {"beta-sparse", "beta"}};
  return *kUpdates;
}

}  // namespace cairn::testing
