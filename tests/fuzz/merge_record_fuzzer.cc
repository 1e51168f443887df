// Any bytes as merge-record.json: refused as damaged, or a record that comes
// out the same when it is written and read again.
#include <cstdint>

#include "core/base/log.h"
#include "merge/cli/merge_record_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto record = cairn::MergeRecordFile::Parse(text, "record");
  if (!record.ok()) {
    CAIRN_CHECK(absl::IsDataLoss(record.status()));
    return 0;
  }
  const std::string written = record->Text();
  const auto again = cairn::MergeRecordFile::Parse(written, "again");
  CAIRN_CHECK(again.ok());
  CAIRN_CHECK(again->Text() == written);
  return 0;
}
