#include "server/intake/contribution_intake.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "core/base/ed25519.h"
#include "core/base/status_util.h"
#include "core/update/manifest.h"
#include "server/flow/blob_ownership.h"
#include "server/testing/small_update.h"

namespace cairn {
namespace {

using store::v1::ContributionRecord;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Pipeline;
using ::testing::SizeIs;
using testing::SmallUpdate;

class ContributionIntakeTest : public ::testing::Test {
 protected:
  ContributionIntakeTest() {
    UseSmallBase(hub_);
    hub_.AddSuite("c");
    alice_ = Author("users/alice");
    bob_ = Author("users/bob");
  }

  static Caller Author(const std::string& user) {
    return {.user = user, .role = v1::User::CONTRIBUTOR};
  }

  // An update that `caller` has uploaded.
  v1::ContributionManifest Uploaded(const Caller& caller,
                                    const SmallUpdate& update = {}) {
    v1::ContributionManifest manifest = StoreUpdate(hub_, update);
    EXPECT_OK(hub_.store().Transact([&](HubTransaction& t) -> absl::Status {
      for (const v1::File& file : manifest.files()) {
        CAIRN_RETURN_IF_ERROR(RecordOwner(
            t, caller.user, *Digest::Parse(file.sha256()), file.size_bytes()));
      }
      return absl::OkStatus();
    }));
    return manifest;
  }
  static v1::CreateContributionRequest Request(
      const v1::ContributionManifest& manifest) {
    v1::CreateContributionRequest request;
    request.set_parent(testing::kModel);
    request.set_manifest(manifest.SerializeAsString());
    return request;
  }
  absl::StatusOr<v1::Contribution> Create(
      const Caller& caller, const v1::CreateContributionRequest& request) {
    return intake_.Create(caller, request);
  }
  std::vector<ContributionRecord> All() {
    return *hub_.store().Read().ListAll<ContributionRecord>("");
  }

  Pipeline hub_;
  Caller alice_, bob_;
  ContributionIntake intake_{hub_.store(), hub_.blobs(), hub_.jobs(),
                             testing::kHubId};
};

TEST_F(ContributionIntakeTest, SoundUpdateIsReceived) {
  auto manifest = Uploaded(alice_);
  manifest.add_claims("c");
  auto created = Create(alice_, Request(manifest));
  ASSERT_OK(created.status());
  EXPECT_EQ(created->name(), "models/m/contributions/c1");
  EXPECT_EQ(created->state(), v1::Contribution::RECEIVED);
  EXPECT_EQ(created->author(), "users/alice");
  EXPECT_EQ(created->attested_by(), "hub");
  EXPECT_EQ(created->attempts_left(), 19);
  EXPECT_GT(created->size_bytes(), 100);
  EXPECT_FALSE(created->etag().empty());
}

TEST_F(ContributionIntakeTest, SignedManifestIsAttestedByItsAuthor) {
  const SigningKey key = SigningKey::Generate();
  alice_.public_key = key.public_hex();
  SignedManifest signed_manifest = SignManifest(Uploaded(alice_), key);
  v1::CreateContributionRequest request;
  request.set_parent(testing::kModel);
  request.set_manifest(signed_manifest.bytes);
  request.set_signature(signed_manifest.signature);
  auto created = Create(alice_, request);
  ASSERT_OK(created.status());
  EXPECT_EQ(created->attested_by(), "author");
}

TEST_F(ContributionIntakeTest, OwnLiveContributionComesBackAsSuccess) {
  auto request = Request(Uploaded(alice_));
  const std::string name = Create(alice_, request)->name();
  EXPECT_EQ(Create(alice_, request)->name(), name);
  EXPECT_THAT(All(), SizeIs(1));
}

TEST_F(ContributionIntakeTest, SameRequestIdGetsTheSameAnswerLater) {
  auto request = Request(Uploaded(alice_));
  request.set_request_id("r1");
  const std::string name = Create(alice_, request)->name();
  v1::WithdrawContributionRequest withdraw;
  withdraw.set_name(name);
  ASSERT_OK(intake_.Withdraw(alice_, withdraw).status());
  auto again = Create(alice_, request);
  EXPECT_EQ(again->name(), name);
  EXPECT_EQ(again->state(), v1::Contribution::WITHDRAWN);
}

TEST_F(ContributionIntakeTest, AfterWithdrawalANewAttemptIsCharged) {
  auto request = Request(Uploaded(alice_));
  v1::WithdrawContributionRequest withdraw;
  withdraw.set_name(Create(alice_, request)->name());
  ASSERT_OK(intake_.Withdraw(alice_, withdraw).status());
  auto again = Create(alice_, request);
  ASSERT_OK(again.status());
  EXPECT_EQ(again->name(), "models/m/contributions/c2");
  EXPECT_EQ(again->attempts_left(), 18);
}

TEST_F(ContributionIntakeTest, AnothersUpdateIsADuplicateOnlyWithItsBytes) {
  auto request = Request(Uploaded(alice_));
  ASSERT_OK(Create(alice_, request).status());
  // Bob knows digests, but has not shown the bytes: he learns nothing.
  EXPECT_EQ(Create(bob_, request).status().code(),
            absl::StatusCode::kFailedPrecondition);
  auto duplicate = Create(bob_, Request(Uploaded(bob_))).status();
  EXPECT_EQ(duplicate.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(GetReason(duplicate)->code, "DUPLICATE");
  EXPECT_THAT(std::string(duplicate.message()),
              ::testing::Not(HasSubstr("alice")));
}

TEST_F(ContributionIntakeTest, ValidateOnlyStoresNothing) {
  auto request = Request(Uploaded(alice_));
  request.set_validate_only(true);
  auto checked = Create(alice_, request);
  ASSERT_OK(checked.status());
  EXPECT_EQ(checked->name(), "");
  EXPECT_EQ(checked->attempts_left(), 20);
  EXPECT_THAT(All(), IsEmpty());
}

TEST_F(ContributionIntakeTest, AttemptsOfADayRunOut) {
  hub_.SetPolicy([](v1::Policy& policy) { policy.set_attempts_per_day(1); });
  ASSERT_OK(Create(alice_, Request(Uploaded(alice_))).status());
  auto second =
      Create(alice_, Request(Uploaded(alice_, {.a = 0.25f}))).status();
  EXPECT_EQ(GetReason(second)->code, "HOLDOUT_EXHAUSTED");
  hub_.clock().Advance(absl::Hours(24));
  EXPECT_OK(Create(alice_, Request(Uploaded(alice_, {.a = 0.25f}))).status());
}

TEST_F(ContributionIntakeTest, AttemptsAreChargedToTheOrganisationAsWell) {
  hub_.SetPolicy(
      [](v1::Policy& policy) { policy.set_organisation_attempts_per_day(1); });
  ASSERT_OK(hub_.store().Transact([&](HubTransaction& t) -> absl::Status {
    for (const std::string& name : {alice_.user, bob_.user}) {
      store::v1::UserRecord record;
      record.mutable_user()->set_name(name);
      record.mutable_user()->set_organisation("lab");
      CAIRN_RETURN_IF_ERROR(t.Put(record));
    }
    return absl::OkStatus();
  }));
  EXPECT_EQ(Create(alice_, Request(Uploaded(alice_)))->attempts_left(), 0);
  auto second = Create(bob_, Request(Uploaded(bob_, {.a = 0.25f}))).status();
  EXPECT_EQ(GetReason(second)->code, "HOLDOUT_EXHAUSTED");
  EXPECT_THAT(std::string(second.message()), HasSubstr("an organisation"));
}

TEST_F(ContributionIntakeTest, DefaultLicenceOfThePolicyIsTaken) {
  hub_.SetPolicy([](v1::Policy& policy) { policy.set_default_license("MIT"); });
  auto manifest = Uploaded(alice_);
  manifest.clear_license();
  EXPECT_EQ(Create(alice_, Request(manifest))->license(), "MIT");
}

// Each line: what is done to a sound request, the code, the reason and a word
// of the message. None leaves anything behind.
struct BadRequest {
  const char* what;
  std::function<void(v1::ContributionManifest&, v1::CreateContributionRequest&,
                     Caller&)>
      edit;
  absl::StatusCode code;
  const char* reason;
  const char* word;
};

using Manifest = v1::ContributionManifest;
using Create = v1::CreateContributionRequest;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kPrecondition = absl::StatusCode::kFailedPrecondition;

std::vector<BadRequest> BadTexts() {
  return {
      {"parent", [](Manifest&, Create& r, Caller&) { r.set_parent("m"); },
       kInvalid, "", "models/ID"},
      {"unknown model",
       [](Manifest&, Create& r, Caller&) { r.set_parent("models/x"); },
       absl::StatusCode::kNotFound, "", "models/x does not exist"},
      {"other hub", [](Manifest& m, Create&, Caller&) { m.set_hub_id("h"); },
       kInvalid, "", "of hub h"},
      {"other model",
       [](Manifest& m, Create&, Caller&) {
         m.set_model("models/other");
         m.set_base_release("models/other/releases/v1.0.0");
       },
       kInvalid, "", "models/other"},
      {"long title",
       [](Manifest& m, Create&, Caller&) {
         m.set_title(std::string(500, 't'));
       },
       kInvalid, "LIMIT_EXCEEDED", "title"},
      {"no licence", [](Manifest& m, Create&, Caller&) { m.clear_license(); },
       kInvalid, "LICENSE_MISSING", "--license"},
      {"bad licence",
       [](Manifest& m, Create&, Caller&) { m.set_license("GPL-3.0"); },
       kInvalid, "LICENSE_NOT_ALLOWED", "GPL-3.0"},
      {"unknown claim",
       [](Manifest& m, Create&, Caller&) { m.add_claims("fortran"); }, kInvalid,
       "", "'fortran'"},
  };
}

std::vector<BadRequest> BadBasesAndKeys() {
  return {
      {"base digest",
       [](Manifest& m, Create&, Caller&) {
         m.set_base_digest("sha256:" + std::string(64, '1'));
       },
       kPrecondition, "BASE_DIGEST_MISMATCH", "--base"},
      {"base release",
       [](Manifest& m, Create&, Caller&) {
         m.set_base_release("models/m/releases/v9.0.0");
       },
       kPrecondition, "BASE_DIGEST_MISMATCH", "v9.0.0"},
      {"signature without a key",
       [](Manifest&, Create& r, Caller&) {
         r.set_signature(std::string(128, '0'));
       },
       kInvalid, "SIGNATURE_INVALID", "identity register"},
      {"another's key",
       [](Manifest& m, Create& r, Caller& c) {
         c.public_key = std::string(64, 'a');
         m.set_author_key(std::string(64, 'b'));
         r.set_signature(std::string(128, '0'));
       },
       kInvalid, "SIGNATURE_INVALID", "registered"},
      {"wrong signature",
       [](Manifest& m, Create& r, Caller& c) {
         c.public_key = SigningKey::Generate().public_hex();
         m.set_author_key(c.public_key);
         r.set_signature(std::string(128, '0'));
       },
       kInvalid, "SIGNATURE_INVALID", ""},
      {"encoding",
       [](Manifest& m, Create&, Caller&) {
         m.set_encoding(v1::Encoding::SPARSE);
       },
       kInvalid, "MALFORMED_FILE", "SPARSE"},
      {"somebody else's bytes",
       [](Manifest&, Create&, Caller& c) { c.user = "users/eve"; },
       kPrecondition, "", "upload it first"},
  };
}

TEST_F(ContributionIntakeTest, BadRequestsAreNamedAndLeaveNothing) {
  std::vector<BadRequest> table = BadTexts();
  for (BadRequest& bad : BadBasesAndKeys()) table.push_back(std::move(bad));
  for (const BadRequest& bad : table) {
    auto manifest = Uploaded(alice_);
    v1::CreateContributionRequest request = Request(manifest);
    Caller caller = alice_;
    bad.edit(manifest, request, caller);
    request.set_manifest(manifest.SerializeAsString());
    const absl::Status status = intake_.Create(caller, request).status();
    EXPECT_EQ(status.code(), bad.code) << bad.what << ": " << status;
    const auto reason = GetReason(status);
    EXPECT_EQ(reason.has_value() ? reason->code : "", bad.reason)
        << bad.what << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.word)) << bad.what;
  }
  EXPECT_THAT(All(), IsEmpty());
  EXPECT_THAT(*hub_.store().Read().ListAll<store::v1::LedgerRecord>(""),
              IsEmpty());
}

TEST_F(ContributionIntakeTest, BadFilesAreNamedAndLeaveNothing) {
  const std::vector<std::pair<SmallUpdate, const char*>> table = {
      {{.out = 5}, "SHAPE_MISMATCH"},
      {{.module = "model.layers.3.self_attn.q_proj"}, "UNKNOWN_TENSOR"},
      {{.cut = 4}, "MALFORMED_FILE"},
      {{.cut = 70}, "MALFORMED_FILE"}};
  for (const auto& [update, reason] : table) {
    const absl::Status status =
        Create(alice_, Request(Uploaded(alice_, update))).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_EQ(GetReason(status)->code, reason) << status;
  }
  EXPECT_THAT(All(), IsEmpty());
}

TEST_F(ContributionIntakeTest, UpdateLargerThanItsBaseAllowsIsRefused) {
  auto manifest = Uploaded(alice_);
  manifest.mutable_files(1)->set_size_bytes((64 << 20) + 1);
  manifest.set_update_digest(UpdateDigest(
      std::vector<v1::File>(manifest.files().begin(), manifest.files().end())));
  auto status = Create(alice_, Request(manifest)).status();
  ASSERT_TRUE(GetReason(status).has_value()) << status;
  EXPECT_EQ(GetReason(status)->code, "LIMIT_EXCEEDED");
  EXPECT_THAT(All(), IsEmpty());
}

TEST_F(ContributionIntakeTest, SizeThatTheBytesDoNotHaveIsRefused) {
  auto manifest = Uploaded(alice_);
  manifest.mutable_files(1)->set_size_bytes(manifest.files(1).size_bytes() + 1);
  manifest.set_update_digest(UpdateDigest(
      std::vector<v1::File>(manifest.files().begin(), manifest.files().end())));
  auto status = Create(alice_, Request(manifest)).status();
  ASSERT_TRUE(GetReason(status).has_value()) << status;
  EXPECT_EQ(GetReason(status)->code, "MALFORMED_FILE");
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("adapter_model.safetensors"));
}

TEST_F(ContributionIntakeTest, OnlyTheAuthorWithdrawsAndOnlyBeforeABatch) {
  v1::WithdrawContributionRequest request;
  request.set_name(hub_.AddContribution("x", v1::Contribution::QUEUED));
  EXPECT_EQ(intake_.Withdraw(bob_, request).status().code(),
            absl::StatusCode::kPermissionDenied);
  request.set_etag("stale");
  EXPECT_EQ(intake_.Withdraw(alice_, request).status().code(),
            absl::StatusCode::kAborted);
  request.clear_etag();
  EXPECT_EQ(intake_.Withdraw(alice_, request)->state(),
            v1::Contribution::WITHDRAWN);
  EXPECT_OK(intake_.Withdraw(alice_, request).status());
  request.set_name(hub_.AddContribution("y", v1::Contribution::REJECTED));
  EXPECT_EQ(intake_.Withdraw(alice_, request).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(ContributionIntakeTest, ListsByState) {
  hub_.AddContribution("x", v1::Contribution::QUEUED);
  hub_.AddContribution("y", v1::Contribution::REJECTED);
  v1::ListContributionsRequest request;
  request.set_parent(testing::kModel);
  EXPECT_EQ(intake_.List(alice_, request, Figures::kRounded)->items_size(), 2);
  request.add_states(v1::Contribution::REJECTED);
  auto rejected = intake_.List(alice_, request, Figures::kRounded);
  ASSERT_EQ(rejected->items_size(), 1);
  EXPECT_EQ(rejected->items(0).name(), "models/m/contributions/y");
}

}  // namespace
}  // namespace cairn
