#include "server/release/release_publisher.h"

#include "core/release/release_digest.h"
#include "core/release/release_document.h"
#include "core/tensor/tensor_manifest.h"
#include "gmock/gmock.h"
#include "server/release/file_assembly.h"
#include "server/release/model_catalog.h"
#include "server/release/release_fixture.h"

namespace cairn {
namespace {

using store::v1::ReleaseRecord;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kHead[] = "models/m/releases/v1.0.0";

class ReleasePublisherTest : public testing::ReleaseFixture {
 protected:
  void SetUp() override {
    ASSERT_TRUE(ModelCatalog(store_, blobs_, signer_)
                    .Create(chief_, SmallModel("m"))
                    .ok());
  }

  // The head with every element of tensor "a" replaced.
  Publication Merge(float fill) {
    ReleaseRecord head = MustGet<ReleaseRecord>(kHead);
    auto tensors = ParseTensorManifest(*ReadAll(
        **blobs_.Open(*Digest::Parse(head.release().tensor_manifest_sha256())),
        1 << 20));
    EXPECT_TRUE(tensors.ok());
    tensors->mutable_tensors(0)->set_sha256(
        blobs_.Put(SmallCheckpoint(fill)[1])->hex());
    Publication out;
    out.model = "models/m";
    out.head = kHead;
    out.origin = ReleaseRecord::MERGED;
    out.candidate.set_release(kHead);
    out.candidate.set_tensor_manifest_sha256(
        blobs_.Put(SerializeTensorManifest(*tensors))->hex());
    out.candidate.set_digest(ReleaseDigest(*tensors, head.release().files()));
    out.candidate.mutable_merge_record()->set_strategy("average");
    out.contributions = out.added = {"models/m/contributions/c1"};
    out.line.emplace_back().set_strategy("average");
    out.batch = "models/m/batches/b1";
    return out;
  }

  absl::Status Commit(const Publication& publication, ReleaseRecord record) {
    return store_.Transact([&](HubTransaction& txn) {
      return publisher_.Commit(txn, publication, record);
    });
  }

  std::string Latest() {
    return MustGet<store::v1::TagRecord>("models/m/tags/latest")
        .tag()
        .release();
  }

  ReleasePublisher publisher_{store_, blobs_, signer_};
};

TEST_F(ReleasePublisherTest, CandidateBecomesTheNextMinorVersion) {
  Publication publication = Merge(5);
  auto record = publisher_.Build(publication);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(Latest(), kHead) << "building publishes nothing";
  ASSERT_TRUE(Commit(publication, *record).ok());
  EXPECT_EQ(Latest(), "models/m/releases/v1.1.0");
  ReleaseRecord stored = MustGet<ReleaseRecord>(Latest());
  EXPECT_EQ(stored.release().parent(), kHead);
  EXPECT_EQ(stored.release().digest(), publication.candidate.digest());
  EXPECT_EQ(stored.line(0).release(), Latest());
  EXPECT_EQ(stored.root_release(), kHead);
  EXPECT_THAT(stored.release().contributions(),
              ElementsAre("models/m/contributions/c1"));
}

TEST_F(ReleasePublisherTest, AttributionIsUnderTheSignature) {
  Publication publication = Merge(5);
  auto& member = *publication.attribution.add_members();
  member.set_contribution("models/m/contributions/c1");
  auto& effect = *member.add_effects();
  effect.set_suite("models/m/suites/perl");
  effect.set_gain(0.0125);
  auto record = publisher_.Build(publication);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->release().attribution().SerializeAsString(),
            publication.attribution.SerializeAsString());
  v1::ReleaseManifest manifest;
  ASSERT_TRUE(manifest.ParseFromString(record->manifest()));
  EXPECT_EQ(manifest.attribution().SerializeAsString(),
            publication.attribution.SerializeAsString());
  const auto& files = record->files();
  const std::string document =
      *ReadAll(**OpenAssembled(blobs_, files[files.size() - 1]), 1 << 20);
  auto verified = VerifyReleaseDocument(document, "");
  ASSERT_TRUE(verified.ok()) << verified.status();
  EXPECT_EQ(verified->attribution().members(0).effects(0).gain(), 0.0125);
  // Nobody can praise a member more than the hub did.
  std::string praised = document;
  const size_t at = praised.rfind("0.0125");
  ASSERT_NE(at, std::string::npos);
  praised.replace(at, 6, "0.1125");
  EXPECT_EQ(VerifyReleaseDocument(praised, "").status().code(),
            absl::StatusCode::kDataLoss);
}

TEST_F(ReleasePublisherTest, FilesAreViewsThatShareWhatDidNotChange) {
  auto record = publisher_.Build(Merge(5));
  ASSERT_TRUE(record.ok());
  ReleaseRecord head = MustGet<ReleaseRecord>(kHead);
  std::vector<std::string> parts = SmallCheckpoint(5);
  for (int i = 0; i < record->files_size(); ++i) {
    const auto& file = record->files(i);
    std::string bytes = *ReadAll(**OpenAssembled(blobs_, file), 1 << 20);
    EXPECT_EQ(record->release().files(i).sha256(), Digest::Of(bytes).hex());
    if (file.path() == "model.safetensors") {
      EXPECT_EQ(bytes, parts[0] + parts[1] + parts[2]);
      EXPECT_NE(file.segments(1).sha256(), head.files(i).segments(1).sha256());
      EXPECT_EQ(file.segments(2).sha256(), head.files(i).segments(2).sha256());
    }
  }
}

TEST_F(ReleasePublisherTest, OnlyWhatWasEvaluatedIsPublished) {
  Publication publication = Merge(5);
  publication.candidate.set_digest(Digest::Of("something else").prefixed());
  auto record = publisher_.Build(publication);
  EXPECT_EQ(record.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(record.status().message()),
              HasSubstr("what was evaluated"));
}

TEST_F(ReleasePublisherTest, HeadThatMovedAbortsAndWritesNothing) {
  Publication first = Merge(5), second = Merge(6);
  auto one = publisher_.Build(first);
  auto two = publisher_.Build(second);
  ASSERT_TRUE(one.ok() && two.ok());
  ASSERT_TRUE(Commit(first, *one).ok());
  EXPECT_EQ(Commit(second, *two).code(), absl::StatusCode::kAborted);
  EXPECT_EQ(MustGet<ReleaseRecord>(Latest()).release().digest(),
            first.candidate.digest());
}

TEST_F(ReleasePublisherTest, RevertIsAPatchOfTheHighestVersion) {
  Publication merge = Merge(5);
  ASSERT_TRUE(Commit(merge, *publisher_.Build(merge)).ok());
  Publication revert;
  revert.model = "models/m";
  revert.head = "models/m/releases/v1.1.0";
  revert.origin = ReleaseRecord::REVERTED;
  revert.candidate.set_release(kHead);
  revert.candidate.set_digest(MustGet<ReleaseRecord>(kHead).release().digest());
  auto record = publisher_.Build(revert);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->release().version(), "v1.1.1");
  EXPECT_EQ(record->release().digest(),
            MustGet<ReleaseRecord>(kHead).release().digest());
  EXPECT_FALSE(record->release().has_merge_record());
}

TEST_F(ReleasePublisherTest, EndedDelegationPublishesNothing) {
  clock_.Advance(absl::Hours(1001));
  auto record = publisher_.Build(Merge(5));
  EXPECT_EQ(record.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(record.status().message()),
              HasSubstr("cairnd delegate"));
}

TEST_F(ReleasePublisherTest, CandidateOfAnotherShapeIsDataLoss) {
  Publication publication = Merge(5);
  v1::TensorManifest fewer;
  v1::Tensor& tensor = *fewer.add_tensors();
  tensor.set_name("a");
  tensor.set_dtype("F32");
  tensor.add_shape(4);
  tensor.set_size_bytes(16);
  tensor.set_sha256(std::string(64, 'a'));
  tensor.set_file("model.safetensors");
  publication.candidate.set_tensor_manifest_sha256(
      blobs_.Put(SerializeTensorManifest(fewer))->hex());
  auto record = publisher_.Build(publication);
  EXPECT_EQ(record.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(record.status().message()), HasSubstr("'a'"));
}

}  // namespace
}  // namespace cairn
