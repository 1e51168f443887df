#include "server/release/tag_table.h"

#include "core/base/status_util.h"
#include "gmock/gmock.h"
#include "server/release/model_catalog.h"
#include "server/release/release_fixture.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

class TagTableTest : public testing::ReleaseFixture {
 protected:
  // v1.0.0 <- v1.1.0 <- v1.2.0, latest at the last.
  void SetUp() override {
    ASSERT_TRUE(ModelCatalog(store_, blobs_, signer_)
                    .Create(chief_, SmallModel("m"))
                    .ok());
    for (int minor : {1, 2}) {
      auto record = MustGet<store::v1::ReleaseRecord>(
          absl::StrCat("models/m/releases/v1.", minor - 1, ".0"));
      v1::Release& release = *record.mutable_release();
      release.set_parent(release.name());
      release.set_version(absl::StrCat("v1.", minor, ".0"));
      release.set_name("models/m/releases/" + release.version());
      release.set_commit(std::string(40, static_cast<char>('a' + minor)));
      ASSERT_TRUE(
          store_.Transact([&](HubTransaction& txn) { return txn.Put(record); })
              .ok());
    }
    ASSERT_TRUE(Set("latest", "v1.2.0", Etag("latest")).ok());
  }

  absl::StatusOr<v1::Tag> Set(const std::string& tag,
                              const std::string& release,
                              const std::string& etag = "",
                              const std::string& expect = "") {
    v1::SetTagRequest request;
    request.set_name("models/m/tags/" + tag);
    request.set_release(release);
    request.set_etag(etag);
    request.set_expect(expect);
    return tags_.Set(chief_, request);
  }
  std::string Etag(const std::string& tag) {
    v1::GetTagRequest request;
    request.set_name("models/m/tags/" + tag);
    auto found = tags_.Get(chief_, request);
    return found.ok() ? found->etag() : "";
  }
  bool RolledBack(const std::string& version) {
    return MustGet<store::v1::ReleaseRecord>("models/m/releases/" + version)
        .release()
        .rolled_back();
  }

  TagTable tags_{store_};
};

TEST_F(TagTableTest, MakesAndMovesATagByItsEtag) {
  auto made = Set("next", "v1.0.0");
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(made->release(), "models/m/releases/v1.0.0");
  auto moved = Set("next", "v1.1.0", made->etag());
  ASSERT_TRUE(moved.ok()) << moved.status();
  EXPECT_EQ(Set("next", "v1.2.0", made->etag()).status().code(),
            absl::StatusCode::kAborted)
      << "the first etag is stale";
  EXPECT_EQ(Set("next", "v1.2.0").status().code(), absl::StatusCode::kAborted)
      << "an existing tag does not move without an etag";
  auto again = Set("next", "v1.1.0", made->etag());
  ASSERT_TRUE(again.ok()) << "naming what it names already is success";
  EXPECT_EQ(again->etag(), moved->etag());
}

TEST_F(TagTableTest, ExpectedReleaseIsCompared) {
  auto made = Set("next", "v1.0.0");
  ASSERT_TRUE(made.ok());
  ASSERT_TRUE(Set("next", "v1.1.0", made->etag(), "v1.0.0").ok());
  auto lost = Set("next", "v1.2.0", Etag("next"), "v1.0.0");
  EXPECT_EQ(lost.status().code(), absl::StatusCode::kAborted);
  EXPECT_EQ(GetReason(lost.status())->code, "ETAG_MISMATCH");
  EXPECT_EQ(Set("fresh", "v1.0.0", "", "v1.0.0").status().code(),
            absl::StatusCode::kAborted);
}

TEST_F(TagTableTest, FindsReleasesByEveryKindOfReference) {
  for (const char* reference :
       {"v1.1.0", "models/m/releases/v1.1.0", "bbbbbbbbbb"}) {
    auto tag = Set("next", reference, Etag("next"));
    ASSERT_TRUE(tag.ok()) << reference << ": " << tag.status();
    EXPECT_EQ(tag->release(), "models/m/releases/v1.1.0") << reference;
  }
  for (const char* unknown : {"v9.9.9", "no-such-tag", "deadbeefdead"}) {
    EXPECT_EQ(Set("next", unknown, Etag("next")).status().code(),
              absl::StatusCode::kNotFound)
        << unknown;
  }
  EXPECT_EQ(
      Set("next", "models/other/releases/v1.0.0", Etag("next")).status().code(),
      absl::StatusCode::kInvalidArgument);
}

TEST_F(TagTableTest, RefusesNamesThatCouldMeanSomethingElse) {
  for (const std::string& bad :
       {std::string("v1.0.0"), std::string("v2"), std::string(40, 'a'),
        std::string("deadbeef"), std::string("a..b"), std::string("../x"),
        std::string("a b"), std::string(""), std::string("-x"),
        std::string(65, 'x')}) {
    EXPECT_EQ(Set(bad, "v1.0.0").status().code(),
              absl::StatusCode::kInvalidArgument)
        << bad;
  }
}

TEST_F(TagTableTest, RollbackOfLatestMarksWhatItAbandons) {
  v1::RollbackRequest request;
  request.set_name("models/m/tags/latest");
  request.set_release("v1.0.0");
  request.set_etag(Etag("latest"));
  EXPECT_EQ(tags_.Rollback(chief_, request).status().code(),
            absl::StatusCode::kInvalidArgument)
      << "a note is required";
  request.set_note("worse in use");
  ASSERT_TRUE(tags_.Rollback(chief_, request).ok());
  EXPECT_FALSE(RolledBack("v1.0.0"));
  EXPECT_TRUE(RolledBack("v1.1.0"));
  EXPECT_TRUE(RolledBack("v1.2.0"));
  ASSERT_TRUE(Set("latest", "v1.1.0", Etag("latest")).ok());
  EXPECT_FALSE(RolledBack("v1.1.0"));
  EXPECT_TRUE(RolledBack("v1.2.0"));
}

TEST_F(TagTableTest, LatestCannotBeDeletedOthersCan) {
  ASSERT_TRUE(Set("next", "v1.0.0").ok());
  v1::DeleteTagRequest request;
  request.set_name("models/m/tags/next");
  EXPECT_EQ(tags_.Delete(chief_, request).status().code(),
            absl::StatusCode::kAborted);
  request.set_etag(Etag("next"));
  ASSERT_TRUE(tags_.Delete(chief_, request).ok());
  EXPECT_EQ(tags_.Delete(chief_, request).status().code(),
            absl::StatusCode::kNotFound);
  request.set_name("models/m/tags/latest");
  request.set_etag(Etag("latest"));
  EXPECT_EQ(tags_.Delete(chief_, request).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(TagTableTest, ReadersMayLookAndNotMove) {
  v1::SetTagRequest request;
  request.set_name("models/m/tags/next");
  request.set_release("v9.9.9");
  EXPECT_EQ(tags_.Set(reader_, request).status().code(),
            absl::StatusCode::kPermissionDenied)
      << "permission is checked before the release is looked for";
  v1::ListTagsRequest list;
  list.set_parent("models/m");
  EXPECT_EQ(tags_.List(reader_, list)->items_size(), 2);
}

}  // namespace
}  // namespace cairn
