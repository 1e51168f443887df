#include "server/release/delta_stage.h"

#include "absl/strings/str_cat.h"
#include "core/release/release_digest.h"
#include "core/tensor/tensor_manifest.h"
#include "gmock/gmock.h"
#include "server/flow/contribution_state.h"
#include "server/flow/delta_records.h"
#include "server/release/model_catalog.h"
#include "server/release/release_catalog.h"
#include "server/release/release_fixture.h"
#include "server/release/release_publisher.h"

namespace cairn {
namespace {

using store::v1::DeltaRecord;
using store::v1::JobRecord;
using store::v1::ReleaseRecord;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

// Replays and reverts are not asked for here.
class NoLines : public LineService {
 public:
  absl::StatusOr<v1::Replay> StartReplay(
      const Caller&, const v1::StartReplayRequest&) override {
    return absl::UnimplementedError("no lines");
  }
  absl::StatusOr<v1::Replay> GetReplay(
      const v1::GetReplayRequest&) const override {
    return absl::UnimplementedError("no lines");
  }
  absl::StatusOr<v1::Batch> RevertContribution(
      const Caller&, const v1::RevertContributionRequest&) override {
    return absl::UnimplementedError("no lines");
  }
};

class SomeWorkers : public WorkerPresence {
 public:
  bool HasWorker(absl::string_view) const override { return are_there; }
  bool are_there = true;
};

class DeltaStageTest : public testing::ReleaseFixture {
 protected:
  void SetUp() override {
    ASSERT_TRUE(ModelCatalog(store_, blobs_, signer_)
                    .Create(chief_, SmallModel("m"))
                    .ok());
  }

  static std::string Release(int minor) {
    return absl::StrCat("models/m/releases/v1.", minor, ".0");
  }
  static std::string Delta(int to, int from) {
    return DeltaName(Release(to), Release(from));
  }

  // Publishes the next release after v1.`head`.0, a merge of `members` with
  // the coefficients 1, 2, ...
  void Publish(int head, const std::vector<std::string>& members = {}) {
    ReleaseRecord record = MustGet<ReleaseRecord>(Release(head));
    auto tensors = ParseTensorManifest(
        *ReadBlob(blobs_, record.release().tensor_manifest_sha256(), 1 << 20));
    ASSERT_TRUE(tensors.ok());
    tensors->mutable_tensors(0)->set_sha256(
        blobs_.Put(SmallCheckpoint(static_cast<float>(head + 7))[1])->hex());
    Publication publication;
    publication.model = "models/m";
    publication.head = Release(head);
    publication.origin = ReleaseRecord::MERGED;
    publication.candidate.set_release(Release(head));
    publication.candidate.set_tensor_manifest_sha256(
        blobs_.Put(SerializeTensorManifest(*tensors))->hex());
    publication.candidate.set_digest(
        ReleaseDigest(*tensors, record.release().files()));
    v1::MergeRecord& merge = *publication.candidate.mutable_merge_record();
    merge.set_head_digest(record.release().digest());
    for (const std::string& member : members) {
      v1::MergeRecord::Input& input = *merge.add_inputs();
      input.set_contribution(member);
      input.set_digest("sha256:" + member);
      input.set_coefficient(merge.inputs_size());
    }
    auto built = publisher_.Build(publication);
    ASSERT_TRUE(built.ok()) << built.status();
    absl::Status committed = store_.Transact([&](HubTransaction& txn) {
      return publisher_.Commit(txn, publication, *built);
    });
    ASSERT_TRUE(committed.ok()) << committed;
  }

  std::string Contribute(const std::string& id, v1::Encoding::Kind encoding) {
    const std::string name = "models/m/contributions/" + id;
    absl::Status put = store_.Transact([&](HubTransaction& txn) {
      store::v1::ContributionRecord record;
      record.set_model("models/m");
      v1::Contribution& c = *record.mutable_contribution();
      c.set_name(name);
      c.set_state(v1::Contribution::RECEIVED);
      c.set_digest("sha256:" + name);
      c.set_encoding(encoding);
      c.set_base_release(Release(0));
      c.add_files()->set_path("adapter_model.safetensors");
      return txn.Put(record);
    });
    EXPECT_TRUE(put.ok()) << put;
    return name;
  }

  v1::DeltaSpec SpecOf(int to, int from) {
    return MustGet<JobRecord>(MustGet<DeltaRecord>(Delta(to, from)).job())
        .spec()
        .delta();
  }

  // A worker hands in `bytes` for a delta; empty: it fails.
  void FinishJob(const std::string& delta, const std::string& bytes) {
    v1::JobResult result;
    if (!bytes.empty()) {
      result.mutable_delta()->set_sha256(blobs_.Put(bytes)->hex());
    }
    const std::string result_sha256 =
        blobs_.Put(result.SerializeAsString())->hex();
    absl::Status done = store_.Transact([&](HubTransaction& txn) {
      CAIRN_ASSIGN_OR_RETURN(auto record, txn.Get<DeltaRecord>(delta));
      CAIRN_ASSIGN_OR_RETURN(auto job, txn.Get<JobRecord>(record.job()));
      CAIRN_RETURN_IF_ERROR(Move(job, JobRecord::LEASED, txn.now()));
      CAIRN_RETURN_IF_ERROR(txn.Put(job));
      CAIRN_RETURN_IF_ERROR(Move(
          job, bytes.empty() ? JobRecord::FAILED : JobRecord::DONE, txn.now()));
      job.set_result_sha256(result_sha256);
      job.mutable_failure()->set_message("it broke");
      return txn.Put(job);
    });
    ASSERT_TRUE(done.ok()) << done;
    EXPECT_EQ(*stage_.RunPass(), 1);
  }

  v1::Delta DeltaOf(const std::string& name) {
    return MustGet<DeltaRecord>(name).delta();
  }

  std::vector<std::string> Planned(int to) {
    std::vector<std::string> names;
    auto records = store_.Read().ListAll<DeltaRecord>(
        absl::StrCat(Release(to), "/deltas/"));
    EXPECT_TRUE(records.ok()) << records.status();
    for (const DeltaRecord& record : *records) {
      names.push_back(record.delta().from());
    }
    return names;
  }

  absl::StatusOr<v1::Delta> Request(int to, int from) {
    v1::RequestDeltaRequest request;
    request.set_name(Release(to));
    request.set_from(Release(from));
    return catalog_.RequestDelta(reader_, request);
  }

  NoLines lines_;
  SomeWorkers workers_;
  ReleasePublisher publisher_{store_, blobs_, signer_};
  ReleaseCatalog catalog_{store_, lines_, workers_};
  DeltaStage stage_{store_, blobs_};
};

TEST_F(DeltaStageTest, PublishingAsksForDeltasFromWherePullersAre) {
  for (int head = 0; head < 9; ++head) Publish(head);
  EXPECT_THAT(Planned(0), IsEmpty());
  EXPECT_THAT(Planned(1), UnorderedElementsAre(Release(0)));
  // One, two, four and eight steps back, and v1.0.0, which `stable` names.
  EXPECT_THAT(Planned(9),
              UnorderedElementsAre(Release(8), Release(7), Release(5),
                                   Release(1), Release(0)));
  const JobRecord job =
      MustGet<JobRecord>(MustGet<DeltaRecord>(Delta(9, 5)).job());
  EXPECT_EQ(job.kind(), "merge");
  EXPECT_EQ(job.spec().delta().from().name(), Release(5));
  EXPECT_EQ(job.spec().delta().to().name(), Release(9));
}

TEST_F(DeltaStageTest, AWorkersDeltaIsListedWithTheRelease) {
  Publish(0);
  EXPECT_EQ(*stage_.RunPass(), 0);
  FinishJob(Delta(1, 0), "short");
  const v1::Delta delta = DeltaOf(Delta(1, 0));
  EXPECT_EQ(delta.state(), v1::Delta::READY);
  EXPECT_EQ(delta.size_bytes(), 5);
  EXPECT_EQ(delta.sha256(), Digest::Of("short").hex());
  v1::GetReleaseRequest request;
  request.set_name(Release(1));
  auto release = catalog_.Get(reader_, request);
  ASSERT_TRUE(release.ok()) << release.status();
  ASSERT_EQ(release->deltas_size(), 1);
  EXPECT_EQ(release->deltas(0).from(), Release(0));
}

TEST_F(DeltaStageTest, ADeltaThatSparesNothingIsNotKept) {
  Publish(0);
  FinishJob(Delta(1, 0), std::string(5000, 'x'));
  EXPECT_EQ(DeltaOf(Delta(1, 0)).state(), v1::Delta::FAILED);
  EXPECT_THAT(DeltaOf(Delta(1, 0)).note(), HasSubstr("would have 5000 bytes"));
}

TEST_F(DeltaStageTest, AFailedJobIsAFailedDelta) {
  Publish(0);
  FinishJob(Delta(1, 0), "");
  EXPECT_EQ(DeltaOf(Delta(1, 0)).state(), v1::Delta::FAILED);
  EXPECT_EQ(DeltaOf(Delta(1, 0)).note(), "it broke");
}

TEST_F(DeltaStageTest, AnyPairIsMadeWhenAskedFor) {
  Publish(0);
  Publish(1);
  auto back = Request(0, 2);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->state(), v1::Delta::PENDING);
  EXPECT_EQ(back->note(), "");
  auto again = Request(0, 2);
  EXPECT_EQ(again->name(), back->name());
  FinishJob(Delta(0, 2), "back");
  EXPECT_EQ(Request(0, 2)->state(), v1::Delta::READY);
}

TEST_F(DeltaStageTest, SaysWhenNobodyIsThereToMakeIt) {
  Publish(0);
  workers_.are_there = false;
  EXPECT_THAT(Request(1, 0)->note(), HasSubstr("cairn-worker"));
}

TEST_F(DeltaStageTest, RefusesPairsThatAreNone) {
  EXPECT_TRUE(absl::IsNotFound(Request(0, 5).status()));
  v1::RequestDeltaRequest request;
  request.set_name(Release(0));
  request.set_from("models/other/releases/v1.0.0");
  EXPECT_TRUE(absl::IsInvalidArgument(
      catalog_.RequestDelta(reader_, request).status()));
}

TEST_F(DeltaStageTest, BoundsWhatPullersCanCauseToBeMade) {
  for (int head = 0; head < 4; ++head) Publish(head);
  int refused = 0;
  for (int to = 0; to <= 4; ++to) {
    for (int from = 0; from <= 4; ++from) {
      if (to == from) continue;
      auto delta = Request(to, from);
      refused += absl::IsResourceExhausted(delta.status()) ? 1 : 0;
    }
  }
  EXPECT_GT(refused, 0);
  EXPECT_LE(store_.Read().FindBy<DeltaRecord>(kOpenDelta, "models/m")->size(),
            size_t{16});
}

TEST_F(DeltaStageTest, WorkersAreToldOfTheLowRankUpdatesInBetween) {
  const std::string a = Contribute("a", v1::Encoding::LORA);
  const std::string b = Contribute("b", v1::Encoding::SPARSE);
  const std::string c = Contribute("c", v1::Encoding::LORA);
  Publish(0, {a});
  Publish(1, {b, c});
  const v1::DeltaSpec one = SpecOf(1, 0);
  ASSERT_EQ(one.merges_size(), 1);
  ASSERT_EQ(one.merges(0).members_size(), 1);
  const v1::DeltaMerge::Member& member = one.merges(0).members(0);
  EXPECT_EQ(member.update().contribution(), a);
  EXPECT_EQ(member.update().files_size(), 1);
  EXPECT_FALSE(member.update().has_base());
  EXPECT_EQ(member.coefficient(), 1);
  const v1::DeltaSpec two = SpecOf(2, 0);
  ASSERT_EQ(two.merges_size(), 2);
  EXPECT_EQ(two.merges(0).members(0).update().contribution(), a);
  ASSERT_EQ(two.merges(1).members_size(), 1) << "oldest first; none is sparse";
  EXPECT_EQ(two.merges(1).members(0).update().contribution(), c);
  EXPECT_EQ(two.merges(1).members(0).coefficient(), 2);
}

TEST_F(DeltaStageTest, UnknownMergesAreLeftOutWhole) {
  Publish(0, {Contribute("a", v1::Encoding::LORA)});
  Publish(1, {"models/m/contributions/gone"});
  Publish(2, {Contribute("c", v1::Encoding::LORA)});
  EXPECT_EQ(SpecOf(2, 1).merges_size(), 0);
  EXPECT_EQ(SpecOf(3, 2).merges_size(), 1);
  EXPECT_EQ(SpecOf(3, 1).merges_size(), 0);
}

}  // namespace
}  // namespace cairn
