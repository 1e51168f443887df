#include "gtest/gtest.h"
#include "merge/cuda/testing/host_tile_device.h"
#include "merge/cuda/testing/tile_device_cases.h"

namespace cairn {
namespace {

// The arithmetic of the CUDA kernels, as the processor computes it.

TEST(HostTileDeviceTest, MethodsGiveTheProcessorsBits) {
  testing::HostTileDevice device;
  testing::ExpectMethodsGiveTheProcessorsBits(device);
}

TEST(HostTileDeviceTest, ConversionsGiveTheProcessorsBits) {
  testing::HostTileDevice device;
  testing::ExpectConversionsGiveTheProcessorsBits(device);
}

TEST(HostTileDeviceTest, ModelsGiveTheProcessorsBytes) {
  testing::HostTileDevice device;
  testing::ExpectModelsGiveTheProcessorsBytes(device);
}

}  // namespace
}  // namespace cairn
