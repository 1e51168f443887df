#include "server/flow/hub_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "core/base/status_util.h"
#include "server/flow/contribution_state.h"
#include "server/flow/resource_names.h"
#include "storage/memory/memory_metadata_store.h"

namespace cairn {
namespace {

using store::v1::ContributionRecord;
using store::v1::ReleaseRecord;
using store::v1::SuiteRecord;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class HubStoreTest : public ::testing::Test {
 protected:
  absl::Status Put(ContributionRecord record) {
    return store_.Transact(
        [&](HubTransaction& transaction) { return transaction.Put(record); });
  }
  ContributionRecord Received(const std::string& id) {
    ContributionRecord record;
    record.set_model("models/m");
    record.mutable_contribution()->set_name("models/m/contributions/" + id);
    record.mutable_contribution()->set_digest("sha256:" + id);
    record.mutable_contribution()->set_state(v1::Contribution::RECEIVED);
    return record;
  }
  std::vector<std::string> Names(const std::vector<ContributionRecord>& list) {
    std::vector<std::string> names;
    for (const auto& r : list) {
      names.emplace_back(ShortName(r.contribution().name()));
    }
    return names;
  }

  FakeClock clock_{absl::FromUnixSeconds(1000)};
  MemoryMetadataStore metadata_;
  HubStore store_{metadata_, clock_};
};

TEST_F(HubStoreTest, GetNamesWhatIsMissing) {
  auto missing =
      store_.Read().Get<ContributionRecord>("models/m/contributions/x");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.status().message()),
              HasSubstr("models/m/contributions/x does not exist"));
}

TEST_F(HubStoreTest, ListsInTheOrderOfNumbersAndPages) {
  for (int i = 1; i <= 12; ++i) {
    ASSERT_TRUE(Put(Received(absl::StrCat("c", i))).ok());
  }
  HubSnapshot snapshot = store_.Read();
  std::vector<std::string> seen;
  PageRequest request{.size = 5, .token = ""};
  do {
    auto page =
        snapshot.List<ContributionRecord>("models/m/contributions/", request);
    ASSERT_TRUE(page.ok());
    for (const auto& name : Names(page->records)) seen.push_back(name);
    request.token = page->next_token;
  } while (!request.token.empty());
  EXPECT_THAT(seen, ElementsAre("c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8",
                                "c9", "c10", "c11", "c12"));
}

TEST_F(HubStoreTest, PageEndsExactlyWhenTheListDoes) {
  for (int i = 1; i <= 4; ++i) {
    ASSERT_TRUE(Put(Received(absl::StrCat("c", i))).ok());
  }
  auto page = store_.Read().List<ContributionRecord>("models/m/contributions/",
                                                     {.size = 4, .token = ""});
  EXPECT_THAT(page->records, SizeIs(4));
  EXPECT_EQ(page->next_token, "");
}

TEST_F(HubStoreTest, ListsOfOneModelDoNotShowAnothers) {
  ASSERT_TRUE(Put(Received("c1")).ok());
  ContributionRecord other = Received("c1");
  other.mutable_contribution()->set_name("models/m2/contributions/c1");
  ASSERT_TRUE(Put(other).ok());
  EXPECT_THAT(
      *store_.Read().ListAll<ContributionRecord>("models/m/contributions/"),
      SizeIs(1));
}

TEST_F(HubStoreTest, RefusesBadPages) {
  for (const PageRequest& bad :
       {PageRequest{.size = -1, .token = ""},
        PageRequest{.size = 1, .token = "not base64 !"}}) {
    EXPECT_EQ(store_.Read()
                  .List<ContributionRecord>("models/m/contributions/", bad)
                  .status()
                  .code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST_F(HubStoreTest, IndexesFollowTheRecord) {
  ContributionRecord record = Received("c1");
  ASSERT_TRUE(Put(record).ok());
  EXPECT_THAT(*store_.Read().FindBy<ContributionRecord>(kContributionByState,
                                                        "RECEIVED"),
              SizeIs(1));
  ASSERT_TRUE(Move(record, v1::Contribution::SCREENED, clock_.Now()).ok());
  ASSERT_TRUE(Put(record).ok());
  EXPECT_THAT(*store_.Read().FindBy<ContributionRecord>(kContributionByState,
                                                        "RECEIVED"),
              IsEmpty());
  EXPECT_THAT(*store_.Read().FindBy<ContributionRecord>(kContributionByState,
                                                        "SCREENED"),
              SizeIs(1));
  ASSERT_TRUE(store_
                  .Transact([](HubTransaction& transaction) {
                    return transaction.Delete<ContributionRecord>(
                        "models/m/contributions/c1");
                  })
                  .ok());
  EXPECT_THAT(*store_.Read().FindByPrefix<ContributionRecord>(
                  kContributionByDigest, "models/m/"),
              IsEmpty());
}

TEST_F(HubStoreTest, ReleasesAreFoundByDigestPrefixNewestLast) {
  for (const char* version : {"v1.2.0", "v1.10.0"}) {
    ASSERT_TRUE(store_
                    .Transact([&](HubTransaction& transaction) {
                      ReleaseRecord record;
                      record.mutable_release()->set_name(
                          absl::StrCat("models/m/releases/", version));
                      record.mutable_release()->set_digest("sha256:abcd1234");
                      return transaction.Put(record);
                    })
                    .ok());
  }
  auto found = store_.Read().FindByPrefix<ReleaseRecord>(
      kReleaseByDigest, ReleaseIndexValue("models/m", "abcd"));
  ASSERT_THAT(*found, SizeIs(2));
  EXPECT_EQ(found->back().release().name(), "models/m/releases/v1.10.0");
}

TEST_F(HubStoreTest, EtagChangesWithContentOnly) {
  ContributionRecord record = Received("c1");
  auto etag = [&] {
    return store_.Read()
        .Get<ContributionRecord>("models/m/contributions/c1")
        ->contribution()
        .etag();
  };
  ASSERT_TRUE(Put(record).ok());
  const std::string first = etag();
  ASSERT_TRUE(Put(record).ok());
  EXPECT_EQ(etag(), first);
  record.mutable_contribution()->set_title("another");
  ASSERT_TRUE(Put(record).ok());
  EXPECT_NE(etag(), first);
}

TEST_F(HubStoreTest, StaleEtagIsAbortedWithItsReason) {
  EXPECT_TRUE(CheckEtag("models/m", "a", "").ok());
  EXPECT_TRUE(CheckEtag("models/m", "a", "a").ok());
  const absl::Status stale = CheckEtag("models/m", "a", "b");
  EXPECT_EQ(stale.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(GetReason(stale)->code, "ETAG_MISMATCH");
}

TEST_F(HubStoreTest, EventsAreNumberedByModel) {
  ASSERT_TRUE(
      store_
          .Transact([](HubTransaction& transaction) -> absl::Status {
            for (const char* model : {"models/a", "models/b", "models/a"}) {
              CAIRN_RETURN_IF_ERROR(
                  transaction.AppendEvent(model, v1::Event()));
            }
            return absl::OkStatus();
          })
          .ok());
  auto events = store_.Read().ListAll<store::v1::EventRecord>("models/a/");
  ASSERT_THAT(*events, SizeIs(2));
  EXPECT_EQ(events->at(0).event().sequence(), 1);
  EXPECT_EQ(events->at(1).event().sequence(), 2);
  EXPECT_EQ(events->at(1).event().create_time().seconds(), 1000);
}

TEST_F(HubStoreTest, RequestIdGetsItsFirstAnswerAgain) {
  v1::Event request, response;
  request.set_kind("ask");
  response.set_kind("answer");
  ASSERT_TRUE(store_
                  .Transact([&](HubTransaction& transaction) {
                    return transaction.Remember("users/a", "Do", "id-1",
                                                request, response);
                  })
                  .ok());
  HubSnapshot snapshot = store_.Read();
  auto again = snapshot.Replayed<v1::Event>("users/a", "Do", "id-1", request);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ((*again)->kind(), "answer");
  EXPECT_FALSE(snapshot.Replayed<v1::Event>("users/b", "Do", "id-1", request)
                   ->has_value());
  EXPECT_FALSE(
      snapshot.Replayed<v1::Event>("users/a", "Do", "", request)->has_value());
  request.set_kind("ask something else");
  EXPECT_EQ(snapshot.Replayed<v1::Event>("users/a", "Do", "id-1", request)
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(HubStoreTest, FailedTransactionLeavesNothing) {
  EXPECT_FALSE(store_
                   .Transact([&](HubTransaction& transaction) -> absl::Status {
                     ContributionRecord record = Received("c1");
                     CAIRN_RETURN_IF_ERROR(transaction.Put(record));
                     return absl::AbortedError("no");
                   })
                   .ok());
  EXPECT_THAT(*store_.Read().ListAll<ContributionRecord>(""), IsEmpty());
}

TEST_F(HubStoreTest, CommitsAreAnnounced) {
  const int64_t seen = store_.changes();
  ASSERT_TRUE(Put(Received("c1")).ok());
  EXPECT_NE(store_.WaitForChange(seen, absl::ZeroDuration()), seen);
}

TEST_F(HubStoreTest, NewestSuiteVersionWins) {
  ASSERT_TRUE(store_
                  .Transact([](HubTransaction& transaction) -> absl::Status {
                    for (int version : {1, 2, 10}) {
                      SuiteRecord record;
                      record.mutable_suite()->set_name("models/m/suites/s");
                      record.mutable_suite()->set_version(version);
                      CAIRN_RETURN_IF_ERROR(Move(record, v1::Suite::CHECKING));
                      CAIRN_RETURN_IF_ERROR(transaction.Put(record));
                    }
                    return absl::OkStatus();
                  })
                  .ok());
  HubSnapshot snapshot = store_.Read();
  EXPECT_EQ(snapshot.GetSuite("models/m/suites/s")->suite().version(), 10);
  EXPECT_THAT(*snapshot.NewestSuites("models/m"), SizeIs(1));
  EXPECT_THAT(*snapshot.ActiveSuites("models/m"), IsEmpty());
}

}  // namespace
}  // namespace cairn
