#ifndef CAIRN_SERVER_TESTING_SMALL_UPDATE_H_
#define CAIRN_SERVER_TESTING_SMALL_UPDATE_H_

#include <cstdint>
#include <string>

#include "cairn/v1/manifest.pb.h"
#include "server/testing/pipeline_fixture.h"

namespace cairn::testing {

inline constexpr char kHubId[] = "hub-1";
inline constexpr char kProjection[] = "model.layers.0.self_attn.q_proj.weight";

// What to put into a PEFT LoRA of rank 2 for kProjection.
struct SmallUpdate {
  float a = 0.5f;
  float b = 0.1f;
  int64_t out = 4;  // rows of lora_B; the base has 4
  std::string module = "model.layers.0.self_attn.q_proj";
  int64_t cut = 0;  // bytes missing at the end of the weights file
};

// Gives release v1.0.0 real tensors: kProjection, F32 [4, 4], all ones, and an
// embedding.
void UseSmallBase(Pipeline& hub);

// Stores the files and returns a manifest for them, on v1.0.0, with the MIT
// licence; not signed.
v1::ContributionManifest StoreUpdate(Pipeline& hub, const SmallUpdate& update);

}  // namespace cairn::testing

#endif  // CAIRN_SERVER_TESTING_SMALL_UPDATE_H_
