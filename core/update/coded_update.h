#ifndef CAIRN_CORE_UPDATE_CODED_UPDATE_H_
#define CAIRN_CORE_UPDATE_CODED_UPDATE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/safetensors.h"
#include "core/update/coded_layout.h"
#include "core/update/position_mask.h"
#include "core/update/update.h"

namespace cairn {

// Opens an update whose changes are coded: listed positions, quantised values,
// factors (layout in README.md). Its table, lengths and positions are checked
// when it is opened, so that reading cannot meet malformed ones; it then holds
// 16 bytes for 8,192 listed changes. `header` has one of kCodedFormats; `mask`
// is what it names (null: none), of which it shares what it needs.
absl::StatusOr<std::unique_ptr<Update>> OpenCodedUpdate(
    SharedSource file, const SafetensorsHeader& header,
    const CodedFormat& format, const PositionMask* mask);

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_CODED_UPDATE_H_
