// A main for fuzz targets in builds without libFuzzer. It feeds the target the
// files of folders, as a test does:
//
//   TARGET FOLDER...
//
// or, for a target that libFuzzer cannot be linked with, inputs that are made
// of those files by chance, without looking at what they reach:
//
//   TARGET --seconds=N [--seed=N] FOLDER...
//
// An input that ends the process is left behind as crash-input.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

void Feed(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()),
                         input.size());
}

std::vector<std::string> ReadFolder(const char* path) {
  std::vector<std::string> inputs;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(path)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream in(entry.path(), std::ios::binary);
    std::stringstream bytes;
    bytes << in.rdbuf();
    inputs.push_back(bytes.str());
  }
  return inputs;
}

class Mutator {
 public:
  Mutator(const std::vector<std::string>& seeds, uint64_t seed)
      : seeds_(seeds), random_(seed) {}

  // A seed with one to eight changes.
  std::string Next() {
    std::string input = Seed();
    for (size_t changes = Below(8) + 1; changes > 0; --changes) Change(input);
    return input;
  }

 private:
  size_t Below(size_t end) {
    return std::uniform_int_distribution<size_t>(0, end - 1)(random_);
  }
  const std::string& Seed() { return seeds_[Below(seeds_.size())]; }

  void Change(std::string& input) {
    static constexpr const char* kWords[] = {
        "0",    "-1",   "1e308", "-1e-308", "9223372036854775807",
        "null", "true", "false", "\"\"",    "[]",
        "{}",   "nan",  "1.5",   "65536",   "2147483648"};
    const size_t at = Below(input.size() + 1);
    const size_t count = std::min(Below(16) + 1, input.size() - at);
    switch (Below(6)) {
      case 0:  // a byte
        if (count > 0) input[at] = static_cast<char>(Below(256));
        break;
      case 1:
        input.erase(at, count);
        break;
      case 2:
        input.insert(at, input.substr(at, count));
        break;
      case 3:  // a number becomes another word
        ReplaceNumber(input, at, kWords[Below(std::size(kWords))]);
        break;
      case 4:  // a piece of another seed
        InsertPiece(input, at);
        break;
      default:
        if (count > 0) input[at] ^= static_cast<char>(1 << Below(8));
    }
  }

  static void ReplaceNumber(std::string& input, size_t at, const char* word) {
    const size_t begin = input.find_first_of("0123456789", at);
    if (begin == std::string::npos) return;
    const size_t end = input.find_first_not_of("0123456789.e-", begin);
    input.replace(begin, end == std::string::npos ? end : end - begin, word);
  }

  void InsertPiece(std::string& input, size_t at) {
    const std::string& other = Seed();
    if (other.empty()) return;
    const size_t from = Below(other.size());
    input.insert(at, other.substr(from, Below(64) + 1));
  }

  const std::vector<std::string>& seeds_;
  std::mt19937_64 random_;
};

int Mutate(const std::vector<std::string>& seeds, double seconds,
           uint64_t seed) {
  const auto now = [] { return std::chrono::steady_clock::now(); };
  const auto end = now() + std::chrono::duration<double>(seconds);
  Mutator mutator(seeds, seed);
  int64_t inputs = 0;
  for (; now() < end; ++inputs) {
    const std::string input = mutator.Next();
    std::ofstream("crash-input", std::ios::binary) << input;
    Feed(input);
  }
  std::filesystem::remove("crash-input");
  std::printf("%lld made inputs\n", static_cast<long long>(inputs));
  return 0;
}

// The number after `flag` in an argument, if it is that.
bool Read(const std::string& argument, const std::string& flag,
          uint64_t& number) {
  if (argument.rfind(flag, 0) != 0) return false;
  number = std::strtoull(argument.c_str() + flag.size(), nullptr, 10);
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> inputs;
  uint64_t seconds = 0, seed = 1;
  for (int i = 1; i < argc; ++i) {
    if (Read(argv[i], "--seconds=", seconds) ||
        Read(argv[i], "--seed=", seed)) {
      continue;
    }
    for (std::string& input : ReadFolder(argv[i])) {
      inputs.push_back(std::move(input));
    }
  }
  for (const std::string& input : inputs) Feed(input);
  std::printf("%zu inputs\n", inputs.size());
  if (inputs.empty()) return 1;
  return seconds == 0 ? 0 : Mutate(inputs, static_cast<double>(seconds), seed);
}
