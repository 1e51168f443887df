// A disk that is full from some write on, whichever it is: the request is
// refused as RESOURCE_EXHAUSTED, what is stored stays readable and sound, and
// the same requests succeed once there is space. CAIRN_SEED chooses the
// writes; CAIRN_EVERY=1 takes every one.

#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <optional>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/failpoint.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/base/testing/temporary_directory.h"
#include "tests/fault/hub_parts.h"

namespace cairn::testing {
namespace {

class FullDiskTest : public ::testing::TestWithParam<const char*> {
 protected:
  FullDiskTest() {
    auto hub = HubParts::Open(directory_.path());
    EXPECT_TRUE(hub.ok()) << hub.status();
    hub_ = *std::move(hub);
    EXPECT_TRUE(hub_->CreateModel("base", 1).ok());
  }
  ~FullDiskTest() override {
    (void)ArmFailpoints("");
    hub_.reset();
  }

  // Sends an upload, a batch and a checkpoint, and publishes: all that writes.
  // Different bytes for each `number`; harmless to repeat.
  absl::Status UseHub(int number) {
    CAIRN_RETURN_IF_ERROR(Upload(number));
    CAIRN_RETURN_IF_ERROR(hub_->Send({absl::StrCat("small ", number)}));
    CAIRN_ASSIGN_OR_RETURN(v1::Model model,
                           hub_->CreateModel(absl::StrCat("m", number),
                                             static_cast<float>(2 + number)));
    if (!model.head().ends_with("v1.0.0")) return absl::OkStatus();
    return hub_->Merge(model.name(), static_cast<float>(1000 + number))
        .status();
  }

  absl::Status Upload(int number) {
    const std::string content =
        HubParts::Bytes(static_cast<uint64_t>(number), 150'000);
    v1::BeginUploadRequest begin;
    begin.set_size_bytes(static_cast<int64_t>(content.size()));
    begin.set_sha256(Digest::Of(content).hex());
    CAIRN_ASSIGN_OR_RETURN(v1::Upload upload,
                           hub_->uploads().Begin(hub_->caller(), begin));
    if (upload.complete()) return absl::OkStatus();
    CAIRN_RETURN_IF_ERROR(hub_->SendChunks(
        upload.name(), content, static_cast<size_t>(upload.committed_bytes()),
        50'000));
    v1::FinishUploadRequest finish;
    finish.set_name(upload.name());
    finish.set_sha256(begin.sha256());
    return hub_->uploads().Finish(hub_->caller(), finish).status();
  }

  void ExpectSound() {
    auto report = hub_->Check();
    ASSERT_TRUE(report.ok()) << report.status();
    for (const std::string& problem : report->problems()) {
      ADD_FAILURE() << problem;
    }
    EXPECT_TRUE(hub_->store().Read().Head("models/base").ok());
  }

  const TemporaryDirectory directory_;
  std::unique_ptr<HubParts> hub_;
};

TEST_P(FullDiskTest, EveryWriteMayBeTheFirstThatFails) {
  const char* given = std::getenv("CAIRN_SEED");
  const std::string seed = given != nullptr ? given : "20267";
  SCOPED_TRACE(absl::StrCat("CAIRN_SEED=", seed));
  std::mt19937_64 random(std::stoull(seed));
  const bool is_every = std::getenv("CAIRN_EVERY") != nullptr;
  int refusals = 0;
  for (int hit = 1; hit < 500;
       hit += is_every ? 1 : 1 + static_cast<int>(random() % 6)) {
    SCOPED_TRACE(absl::StrCat(GetParam(), "=enospc@", hit));
    ASSERT_TRUE(ArmFailpoints(absl::StrCat(GetParam(), "=enospc@", hit)).ok());
    absl::Status refused = UseHub(hit);
    if (refused.ok()) {
      std::cout << GetParam() << ": refused " << refusals << " times in " << hit
                << " writes\n";
      EXPECT_GT(refusals, 0);
      return;
    }
    ++refusals;
    EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
    const std::optional<ErrorReason> reason = GetReason(refused);
    EXPECT_TRUE(reason.has_value() && reason->code == "STORAGE_FULL")
        << refused;
    ExpectSound();
    ASSERT_TRUE(ArmFailpoints("").ok());
    absl::Status again = UseHub(hit);
    EXPECT_TRUE(again.ok()) << again;
    ExpectSound();
  }
  ADD_FAILURE() << "the writes never ended";
}

INSTANTIATE_TEST_SUITE_P(Writes, FullDiskTest,
                         ::testing::Values("file.open", "file.write",
                                           "file.sync", "file.sync_all",
                                           "store.commit"));

}  // namespace
}  // namespace cairn::testing
