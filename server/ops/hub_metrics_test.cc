#include "server/ops/hub_metrics.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/memory/memory_metadata_store.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

TEST(HubMetricsTest, CountsRecordsByStateAndBytes) {
  MemoryMetadataStore metadata;
  FakeClock clock;
  HubStore store(metadata, clock);
  StageRunner stages(store);
  absl::Status put = store.Transact([](HubTransaction& txn) {
    store::v1::JobRecord job;
    job.set_name("jobs/j1");
    job.set_state(store::v1::JobRecord::PENDING);
    return txn.Put(job);
  });
  ASSERT_TRUE(put.ok()) << put;
  auto text = RenderMetrics({.store = store,
                             .stages = stages,
                             .uploaded_bytes = [] { return 123; },
                             .downloaded_bytes = [] { return 45; },
                             .open_streams = [] { return 6; },
                             .version = "9.9.9",
                             .scrubbed_bytes = [] { return 7; },
                             .damaged_blobs = [] { return 8; },
                             .packed_blobs = [] { return 9; },
                             .free_bytes = [] { return 10; }});
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_THAT(*text, HasSubstr("cairn_jobs{state=\"PENDING\"} 1\n"));
  EXPECT_THAT(*text, HasSubstr("cairn_jobs{state=\"LEASED\"} 0\n"));
  EXPECT_THAT(*text, HasSubstr("cairn_uploads_bytes_total 123\n"));
  EXPECT_THAT(*text, HasSubstr("cairn_downloads_bytes_total 45\n"));
  EXPECT_THAT(*text, HasSubstr("cairn_open_streams 6\n"));
  EXPECT_THAT(*text, HasSubstr("cairn_scrubbed_bytes_total 7\n"));
  EXPECT_THAT(*text, HasSubstr("cairn_damaged_blobs 8\n"));
  EXPECT_THAT(*text, HasSubstr("cairn_packed_blobs_total 9\n"));
  EXPECT_THAT(*text, HasSubstr("cairn_disk_free_bytes 10\n"));
  EXPECT_THAT(*text, HasSubstr("cairn_build_info{version=\"9.9.9\"} 1\n"));
}

}  // namespace
}  // namespace cairn
