// cairn-tokenize: texts to token ids, by a model of sentencepiece.
#include <sentencepiece_processor.h>

#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace {

int Fail(const std::string& message) {
  std::fprintf(stderr, "cairn-tokenize: %s\n", message.c_str());
  return 1;
}

int Run(const std::string& model, const std::string& texts,
        const std::string& ids) {
  std::ifstream file(model, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  sentencepiece::SentencePieceProcessor processor;
  if (const auto loaded = processor.LoadFromSerializedProto(bytes);
      bytes.empty() || !loaded.ok()) {
    return Fail(model + " is no model of sentencepiece: " +
                std::string(loaded.error_message()));
  }
  std::ifstream in(texts);
  std::ofstream out(ids);
  for (std::string line; std::getline(in, line);) {
    const auto text = nlohmann::json::parse(line, nullptr, false);
    if (!text.is_string()) return Fail(texts + ": a line is no JSON string");
    std::vector<int> encoded;
    if (!processor.Encode(text.get<std::string>(), &encoded).ok()) {
      return Fail("a text could not be encoded");
    }
    out << nlohmann::json(encoded).dump() << "\n";
  }
  out.close();
  return out.good() ? 0 : Fail("cannot write " + ids);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: cairn-tokenize MODEL TEXTS IDS\n");
    return 2;
  }
  try {
    return Run(argv[1], argv[2], argv[3]);
  } catch (const std::exception& error) {
    return Fail(error.what());
  }
}
