#include "server/ops/event_log.h"

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "storage/memory/memory_metadata_store.h"

namespace cairn {
namespace {

class EventLogTest : public ::testing::Test {
 protected:
  void SetUp() override {
    store::v1::ModelRecord model;
    model.mutable_model()->set_name("models/m");
    ASSERT_TRUE(
        store_.Transact([&](HubTransaction& txn) { return txn.Put(model); })
            .ok());
  }
  void Happen(const std::string& subject, const std::string& related = "") {
    v1::Event event;
    event.set_kind("test");
    event.set_subject(subject);
    if (!related.empty()) event.add_related(related);
    ASSERT_TRUE(store_
                    .Transact([&](HubTransaction& txn) {
                      return txn.AppendEvent("models/m", event);
                    })
                    .ok());
  }
  v1::ListEventsRequest From(int64_t after, int32_t size = 0) {
    v1::ListEventsRequest request;
    request.set_parent("models/m");
    request.set_after(after);
    request.set_page_size(size);
    return request;
  }

  MemoryMetadataStore metadata_;
  FakeClock clock_;
  HubStore store_{metadata_, clock_};
  EventLog events_{store_};
  const Caller reader_{.user = "users/eve", .role = v1::User::READER};
};

TEST_F(EventLogTest, PagesGoOnAfterTheLastSequenceNumber) {
  for (int i = 0; i < 5; ++i) Happen(absl::StrCat("s", i));
  auto page = events_.List(reader_, From(0, 3));
  ASSERT_TRUE(page.ok()) << page.status();
  ASSERT_EQ(page->items_size(), 3);
  EXPECT_TRUE(page->more());
  page = events_.List(reader_, From(page->items(2).sequence(), 3));
  ASSERT_EQ(page->items_size(), 2);
  EXPECT_EQ(page->items(1).subject(), "s4");
  EXPECT_FALSE(page->more());
}

TEST_F(EventLogTest, SubjectFindsWhatConcernsIt) {
  Happen("a");
  Happen("b", "a");
  Happen("c");
  auto request = From(0);
  request.set_subject("a");
  auto page = events_.List(reader_, request);
  ASSERT_EQ(page->items_size(), 2);
  EXPECT_EQ(page->items(1).subject(), "b");
}

TEST_F(EventLogTest, WatcherSeesWhatComesAndNothingTwice) {
  Happen("old");
  v1::WatchEventsRequest request;
  request.set_parent("models/m");
  request.set_after(-1);
  auto cursor = events_.Watch(reader_, request);
  ASSERT_TRUE(cursor.ok()) << cursor.status();
  EXPECT_FALSE(cursor->Next()->has_value());
  EXPECT_FALSE(cursor->Next()->has_value());
  Happen("new");
  auto event = cursor->Next();
  ASSERT_TRUE(event.ok() && event->has_value());
  EXPECT_EQ((*event)->subject(), "new");
  EXPECT_FALSE(cursor->Next()->has_value());
}

TEST_F(EventLogTest, WatcherFromAPlaceGetsWhatItMissed) {
  for (int i = 0; i < 9; ++i) Happen(absl::StrCat("s", i));
  v1::WatchEventsRequest request;
  request.set_parent("models/m");
  request.set_after(7);
  auto cursor = events_.Watch(reader_, request);
  ASSERT_TRUE(cursor.ok());
  EXPECT_EQ((*cursor->Next())->subject(), "s7");
  EXPECT_EQ((*cursor->Next())->subject(), "s8");
}

TEST_F(EventLogTest, RefusesStrangersAndNonsense) {
  EXPECT_EQ(events_.List(Caller(), From(0)).status().code(),
            absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(events_.List(reader_, From(-2)).status().code(),
            absl::StatusCode::kInvalidArgument);
  auto absent = From(0);
  absent.set_parent("models/absent");
  EXPECT_EQ(events_.List(reader_, absent).status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace cairn
