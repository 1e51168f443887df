#include "client/tensor_changes.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

void Add(v1::TensorManifest& manifest, const std::string& name,
         const std::string& sha256) {
  v1::Tensor& tensor = *manifest.add_tensors();
  tensor.set_name(name);
  tensor.set_dtype("F32");
  tensor.add_shape(2);
  tensor.set_size_bytes(8);
  tensor.set_sha256(sha256);
}

TEST(TensorChangesTest, TellsChangedAddedAndRemovedApart) {
  v1::TensorManifest before;
  v1::TensorManifest after;
  Add(before, "a", "1");
  Add(before, "b", "1");
  Add(before, "c", "1");
  Add(after, "b", "2");
  Add(after, "c", "1");
  Add(after, "d", "1");
  auto changes = CompareTensors(before, after);
  ASSERT_EQ(changes.size(), 3u);
  EXPECT_EQ(changes[0].name, "a");
  EXPECT_EQ(changes[0].kind, TensorChange::Kind::kRemoved);
  EXPECT_EQ(changes[1].name, "b");
  EXPECT_EQ(changes[1].kind, TensorChange::Kind::kChanged);
  EXPECT_EQ(changes[2].name, "d");
  EXPECT_EQ(changes[2].kind, TensorChange::Kind::kAdded);
}

TEST(TensorChangesTest, AnotherShapeIsAChange) {
  v1::TensorManifest before;
  v1::TensorManifest after;
  Add(before, "a", "1");
  Add(after, "a", "1");
  EXPECT_TRUE(CompareTensors(before, after).empty());
  after.mutable_tensors(0)->add_shape(1);
  EXPECT_EQ(CompareTensors(before, after).size(), 1u);
}

}  // namespace
}  // namespace cairn
