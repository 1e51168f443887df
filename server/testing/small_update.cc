#include "server/testing/small_update.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "core/release/release_digest.h"
#include "core/tensor/dtype.h"
#include "core/tensor/safetensors.h"
#include "core/tensor/tensor_manifest.h"
#include "core/update/manifest.h"
#include "core/update/update.h"

namespace cairn::testing {
namespace {

using store::v1::ReleaseRecord;

constexpr char kBase[] = "models/m/releases/v1.0.0";

std::string Floats(int64_t count, float value) {
  std::vector<float> values(static_cast<size_t>(count), value);
  std::string bytes(values.size() * sizeof(float), '\0');
  FromFloats(DType::kF32, values, absl::MakeSpan(bytes));
  return bytes;
}

std::string Weights(const SmallUpdate& update) {
  const std::string prefix = absl::StrCat("base_model.model.", update.module);
  const std::string a = absl::StrCat(prefix, ".lora_A.weight");
  const std::string b = absl::StrCat(prefix, ".lora_B.weight");
  auto layout = LayOutSafetensors(
      {{.name = a, .dtype = DType::kF32, .shape = {2, 4}},
       {.name = b, .dtype = DType::kF32, .shape = {update.out, 2}}},
      {{"format", "pt"}});
  CAIRN_CHECK(layout.ok());
  std::string file = layout->header;
  for (const TensorEntry& tensor : layout->tensors) {
    file += tensor.name == a ? Floats(8, update.a)
                             : Floats(update.out * 2, update.b);
  }
  file.resize(file.size() - static_cast<size_t>(update.cut));
  return file;
}

void AddTensor(Pipeline& hub, const std::string& name, int64_t rows,
               v1::TensorManifest& manifest) {
  auto blob = hub.blobs().Put(Floats(rows * 4, 1.0f));
  CAIRN_CHECK(blob.ok());
  v1::Tensor& tensor = *manifest.add_tensors();
  tensor.set_name(name);
  tensor.set_dtype("F32");
  tensor.add_shape(rows);
  tensor.add_shape(4);
  tensor.set_sha256(blob->hex());
  tensor.set_size_bytes(rows * 16);
}

}  // namespace

void UseSmallBase(Pipeline& hub) {
  v1::TensorManifest manifest;
  AddTensor(hub, "model.embed_tokens.weight", 8, manifest);
  AddTensor(hub, kProjection, 4, manifest);
  auto stored = hub.blobs().Put(SerializeTensorManifest(manifest));
  CAIRN_CHECK(stored.ok());
  auto put = hub.store().Transact([&](HubTransaction& t) -> absl::Status {
    CAIRN_ASSIGN_OR_RETURN(auto base, t.Get<ReleaseRecord>(kBase));
    base.mutable_release()->set_tensor_manifest_sha256(stored->hex());
    base.mutable_release()->set_digest(
        ReleaseDigest(manifest, absl::Span<const v1::File>()));
    base.set_tensor_bytes(12 * 16);
    return t.Put(base);
  });
  CAIRN_CHECK(put.ok());
}

v1::ContributionManifest StoreUpdate(Pipeline& hub, const SmallUpdate& update) {
  const std::pair<std::string, std::string> files[] = {
      {kAdapterConfigFile,
       R"({"peft_type":"LORA","r":2,"lora_alpha":2,"target_modules":["q_proj"]})"},
      {kAdapterWeightsFile, Weights(update)}};
  v1::ContributionManifest manifest;
  manifest.set_hub_id(kHubId);
  manifest.set_model(kModel);
  manifest.set_base_release(kBase);
  manifest.set_base_digest(hub.Get<ReleaseRecord>(kBase).release().digest());
  manifest.set_encoding(v1::Encoding::LORA);
  for (const auto& [path, bytes] : files) {
    auto blob = hub.blobs().Put(bytes);
    CAIRN_CHECK(blob.ok());
    v1::File& file = *manifest.add_files();
    file.set_path(path);
    file.set_size_bytes(static_cast<int64_t>(bytes.size()));
    file.set_sha256(blob->hex());
  }
  manifest.set_update_digest(UpdateDigest(
      std::vector<v1::File>(manifest.files().begin(), manifest.files().end())));
  manifest.set_license("MIT");
  return manifest;
}

}  // namespace cairn::testing
