#ifndef CAIRN_MERGE_CUDA_TESTING_TILE_DEVICE_CASES_H_
#define CAIRN_MERGE_CUDA_TESTING_TILE_DEVICE_CASES_H_

#include "merge/engine/tile_device.h"

namespace cairn::testing {

// What every device has to do: gtest expectations that a device gives, bit for
// bit, what the processor does.

// Every method that has a formula, over element types, sizes that fill no
// block, tiles and special numbers.
void ExpectMethodsGiveTheProcessorsBits(TileDevice& device);

// Every kind of rounding, on every 16-bit number and on floats around the
// borders between two of them.
void ExpectConversionsGiveTheProcessorsBits(TileDevice& device);

// Whole models through the executor, on one thread and on three.
void ExpectModelsGiveTheProcessorsBytes(TileDevice& device);

}  // namespace cairn::testing

#endif  // CAIRN_MERGE_CUDA_TESTING_TILE_DEVICE_CASES_H_
