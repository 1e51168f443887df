#include "server/suite/suite_catalog.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "core/base/status_util.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/flow/blob_ownership.h"
#include "storage/memory/memory_blob_store.h"
#include "storage/memory/memory_metadata_store.h"

namespace cairn {
namespace {

constexpr char kYaml[] =
    "name: prose\nkind: perplexity\nmetric: perplexity\n"
    "higher_is_better: false\ndescription: d\nlicense: CC0-1.0\n"
    "splits: {search: s.jsonl, gate: g.jsonl, audit: a.jsonl}\n";

class SuiteCatalogTest : public ::testing::Test {
 protected:
  void SetUp() override {
    store::v1::ModelRecord model;
    model.mutable_model()->set_name("models/m");
    model.mutable_model()->mutable_policy()->set_unprotected_margin(0.1);
    model.mutable_model()->mutable_policy()->mutable_margin()->set_perplexity(
        0.01);
    ASSERT_TRUE(
        store_.Transact([&](HubTransaction& txn) { return txn.Put(model); })
            .ok());
  }

  void AddFile(v1::AddSuiteRequest& request, const std::string& path,
               const std::string& text) {
    Digest digest = *blobs_.Put(text);
    auto size = static_cast<int64_t>(text.size());
    ASSERT_TRUE(store_
                    .Transact([&](HubTransaction& txn) {
                      return RecordOwner(txn, chief_.user, digest, size);
                    })
                    .ok());
    v1::File& file = *request.add_files();
    file.set_path(path);
    file.set_size_bytes(size);
    file.set_sha256(digest.hex());
  }

  v1::AddSuiteRequest Prose(int items = 1) {
    v1::AddSuiteRequest request;
    request.set_parent("models/m");
    request.set_suite_id("prose");
    std::string gate;
    for (int i = 0; i < items; ++i) {
      absl::StrAppend(&gate, R"({"id":")", i, R"(","input_ids":[1,2]})", "\n");
    }
    AddFile(request, "suite.yaml", kYaml);
    AddFile(request, "g.jsonl", gate);
    AddFile(request, "s.jsonl", R"({"id":"1","input_ids":[1,2]})");
    AddFile(request, "a.jsonl", R"({"id":"1","input_ids":[3,2]})");
    return request;
  }

  MemoryMetadataStore metadata_;
  FakeClock clock_;
  HubStore store_{metadata_, clock_};
  MemoryBlobStore blobs_{clock_};
  SuiteCatalog suites_{store_, blobs_};
  const Caller chief_{.user = "users/chief", .role = v1::User::MAINTAINER};
};

TEST_F(SuiteCatalogTest, OnlyTheDevSplitIsPublic) {
  EXPECT_EQ(suites_.Add(chief_, Prose(2))->public_files_size(), 0);
  auto request = Prose(3);
  std::string yaml = kYaml;
  yaml.replace(yaml.rfind('}'), 1, ", dev: d.jsonl}");
  request.mutable_files()->DeleteSubrange(0, 1);
  AddFile(request, "suite.yaml", yaml);
  AddFile(request, "d.jsonl", R"({"id":"1","input_ids":[4,2]})");
  auto suite = suites_.Add(chief_, request);
  ASSERT_TRUE(suite.ok()) << suite.status();
  std::vector<std::string> paths;
  for (const v1::File& file : suite->public_files()) {
    paths.push_back(file.path());
  }
  EXPECT_THAT(paths, ::testing::ElementsAre("d.jsonl", "suite.yaml"));
  EXPECT_EQ(suite->split_items().at("dev"), 1);
}

TEST_F(SuiteCatalogTest, NewSuiteIsCheckedWithThePolicysMargin) {
  auto suite = suites_.Add(chief_, Prose(3));
  ASSERT_TRUE(suite.ok()) << suite.status();
  EXPECT_EQ(suite->version(), 1);
  EXPECT_EQ(suite->state(), v1::Suite::CHECKING);
  EXPECT_EQ(suite->items(), 3);
  EXPECT_EQ(suite->margin(), 0.1);
  auto guarded = Prose(4);
  guarded.set_suite_id("guarded");
  guarded.set_protected_(true);
  EXPECT_EQ(suites_.Add(chief_, guarded)->margin(), 0.01);
  guarded.set_suite_id("own");
  guarded.set_margin(0.03);
  EXPECT_EQ(suites_.Add(chief_, guarded)->margin(), 0.03);
}

TEST_F(SuiteCatalogTest, SameSuiteAgainChangesNothingAnotherIsTheNextVersion) {
  auto first = suites_.Add(chief_, Prose(1));
  auto again = suites_.Add(chief_, Prose(1));
  ASSERT_TRUE(first.ok() && again.ok());
  EXPECT_EQ(again->etag(), first->etag());
  auto next = suites_.Add(chief_, Prose(2));
  ASSERT_TRUE(next.ok());
  EXPECT_EQ(next->version(), 2);
  v1::ListSuitesRequest list;
  list.set_parent("models/m");
  EXPECT_EQ(suites_.List(chief_, list)->items_size(), 1);
}

TEST_F(SuiteCatalogTest, RefusesBadRequests) {
  auto no_model = Prose();
  no_model.set_parent("models/absent");
  EXPECT_EQ(suites_.Add(chief_, no_model).status().code(),
            absl::StatusCode::kNotFound);
  auto bad_name = Prose();
  bad_name.set_suite_id("a/b");
  EXPECT_EQ(suites_.Add(chief_, bad_name).status().code(),
            absl::StatusCode::kInvalidArgument);
  for (double margin : {0.0, -1.0, 11.0, std::nan("")}) {
    auto bad_margin = Prose();
    bad_margin.set_margin(margin);
    EXPECT_EQ(suites_.Add(chief_, bad_margin).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
  auto twice = Prose();
  *twice.add_files() = twice.files(0);
  EXPECT_EQ(suites_.Add(chief_, twice).status().code(),
            absl::StatusCode::kInvalidArgument);
  auto lies = Prose();
  lies.mutable_files(1)->set_size_bytes(1);
  EXPECT_EQ(suites_.Add(chief_, lies).status().code(),
            absl::StatusCode::kInvalidArgument);
  auto not_here = Prose();
  not_here.mutable_files(1)->set_sha256(std::string(64, 'e'));
  EXPECT_EQ(suites_.Add(chief_, not_here).status().code(),
            absl::StatusCode::kFailedPrecondition);
  Caller reader{.user = "users/eve", .role = v1::User::READER};
  EXPECT_EQ(suites_.Add(reader, no_model).status().code(),
            absl::StatusCode::kPermissionDenied);
}

TEST_F(SuiteCatalogTest, EpochBeginsOnlyWithGateItemsNeverUsed) {
  auto with_gate = [&](const std::string& gate) {
    v1::AddSuiteRequest request;
    request.set_parent("models/m");
    request.set_suite_id("prose");
    AddFile(request, "suite.yaml", kYaml);
    AddFile(request, "g.jsonl", gate);
    AddFile(request, "s.jsonl", R"({"id":"1","input_ids":[1,2]})");
    AddFile(request, "a.jsonl", R"({"id":"1","input_ids":[3,2]})");
    auto suite = suites_.Add(chief_, request);
    EXPECT_TRUE(suite.ok()) << suite.status();
    return suite->epoch();
  };
  EXPECT_EQ(with_gate(R"({"id":"1","input_ids":[5,6]})"), 1);
  EXPECT_EQ(with_gate("{\"id\":\"other\", \"input_ids\": [5, 6]}\n"
                      "{\"id\":\"2\",\"input_ids\":[7,8]}"),
            1)
      << "the same item under another id and spelling";
  EXPECT_EQ(with_gate(R"({"id":"1","input_ids":[9,9]})"), 2);
  EXPECT_EQ(with_gate(R"({"id":"1","input_ids":[7,8]})"), 2)
      << "used two versions ago";
}

TEST_F(SuiteCatalogTest, BudgetOfTheGateSplitIsShown) {
  ASSERT_TRUE(suites_.Add(chief_, Prose()).ok());
  v1::GetSuiteRequest request;
  request.set_name("models/m/suites/prose");
  auto suite = suites_.Get(chief_, request);
  EXPECT_EQ(suite->attempts_used(), 0);
  EXPECT_EQ(suite->attempts_left(), 2000);
}

TEST_F(SuiteCatalogTest, CanaryIsNotProtected) {
  auto request = Prose();
  request.set_canary(true);
  EXPECT_TRUE(suites_.Add(chief_, request)->canary());
  request.set_protected_(true);
  EXPECT_EQ(suites_.Add(chief_, request).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace cairn
