// Any bytes as a suite that is pushed: two bytes for the length of
// suite.yaml, suite.yaml, the items of every split. Refused with a reason, or
// a description with items.
#include <cstdint>
#include <string>

#include "core/base/log.h"
#include "core/base/status_util.h"
#include "server/suite/suite_reader.h"
#include "tests/fuzz/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  cairn::testing::FuzzInput input(data, size);
  const size_t length = input.Number();
  cairn::FileMap files;
  files[cairn::kSuiteFile] = cairn::MakeMemorySource(input.Bytes(length));
  const cairn::SharedSource items = cairn::MakeMemorySource(input.Rest());
  for (const char* name : {"a.jsonl", "b.jsonl", "c.jsonl"}) {
    files[name] = items;
  }
  const auto suite = cairn::ReadSuite(files);
  if (!suite.ok()) {
    CAIRN_CHECK(cairn::GetReason(suite.status()).has_value());
    return 0;
  }
  for (const auto& [split, file] : suite->splits) {
    CAIRN_CHECK(suite->split_items.at(split) > 0);
  }
  return 0;
}
