#include <memory>

#include "gtest/gtest.h"
#include "merge/cuda/open_device.h"
#include "merge/cuda/testing/tile_device_cases.h"

namespace cairn {
namespace {

class CudaParityTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto device = OpenTileDevice("cuda:0");
    if (!device.ok()) GTEST_SKIP() << device.status();
    device_ = *std::move(device);
  }

  std::unique_ptr<TileDevice> device_;
};

TEST_F(CudaParityTest, MethodsGiveTheProcessorsBits) {
  testing::ExpectMethodsGiveTheProcessorsBits(*device_);
}

TEST_F(CudaParityTest, ConversionsGiveTheProcessorsBits) {
  testing::ExpectConversionsGiveTheProcessorsBits(*device_);
}

TEST_F(CudaParityTest, ModelsGiveTheProcessorsBytes) {
  testing::ExpectModelsGiveTheProcessorsBytes(*device_);
}

}  // namespace
}  // namespace cairn
