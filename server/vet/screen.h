#ifndef CAIRN_SERVER_VET_SCREEN_H_
#define CAIRN_SERVER_VET_SCREEN_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cairn/store/v1/records.pb.h"
#include "core/update/update.h"
#include "server/flow/hub_store.h"
#include "storage/blob_store.h"

namespace cairn {

// What a screen looks at. All references live as long as the call.
struct ScreenInput {
  const store::v1::ContributionRecord& record;
  const Update& update;
  const v1::TensorManifest& base;  // tensors of the base release
  const v1::Policy& policy;
  const HubReader& reader;
  const BlobStore& blobs;
  // What the update does to the weights; null for screens that come before it
  // is measured.
  const store::v1::FingerprintRecord* fingerprint = nullptr;
};

// One static or weight-space check of an update. Stateless and thread-safe.
class Screen {
 public:
  virtual ~Screen() = default;

  virtual absl::string_view name() const = 0;
  // What speaks against the update; empty when nothing does. An error is
  // trouble of the hub (a blob that cannot be read), not of the update.
  virtual absl::StatusOr<std::vector<v1::Reason>> Inspect(
      const ScreenInput& input) const = 0;
};

// The manifest's signature, again, as it is stored.
std::unique_ptr<Screen> MakeSignatureScreen();
// Same bytes contributed already and alive.
std::unique_ptr<Screen> MakeDuplicateScreen();
// Names, shapes and dtypes against the base.
std::unique_ptr<Screen> MakeBaseScreen();
// No NaN, no infinity.
std::unique_ptr<Screen> MakeFiniteScreen();
// Frobenius norm of each tensor's change beside that of the tensor.
std::unique_ptr<Screen> MakeNormScreen();

// Screens of the files, in the order in which they run, cheap ones first; then
// those that need the fingerprint. The first that finds something ends it.
std::vector<std::unique_ptr<Screen>> FileScreens();
std::vector<std::unique_ptr<Screen>> FingerprintScreens();

}  // namespace cairn

#endif  // CAIRN_SERVER_VET_SCREEN_H_
