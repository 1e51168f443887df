#include "server/intake/upload_sessions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/status_util.h"
#include "core/rpc/limits.h"
#include "server/flow/blob_ownership.h"
#include "storage/memory/memory_blob_store.h"
#include "storage/memory/memory_metadata_store.h"
#include "storage/testing/faulty_blob_store.h"
#include "storage/testing/faulty_metadata_store.h"

namespace cairn {
namespace {

using testing::BlobFault;
using ::testing::ElementsAre;
using testing::FaultyBlobStore;
using testing::FaultyMetadataStore;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Caller MakeCaller(const std::string& name, v1::User::Role role) {
  Caller caller;
  caller.user = "users/" + name;
  caller.role = role;
  return caller;
}

class UploadSessionsTest : public ::testing::Test {
 protected:
  // As after a restart of the process.
  void Restart() {
    sessions_ = std::make_unique<UploadSessions>(store_, blobs_, options_);
  }

  v1::Upload Begin(const std::string& bytes, const Caller& caller) {
    v1::BeginUploadRequest request;
    request.set_size_bytes(static_cast<int64_t>(bytes.size()));
    request.set_sha256(Digest::Of(bytes).hex());
    auto upload = sessions_->Begin(caller, request);
    EXPECT_TRUE(upload.ok()) << upload.status();
    return upload.ok() ? *upload : v1::Upload();
  }
  v1::Upload Begin(const std::string& bytes) { return Begin(bytes, alice_); }

  std::unique_ptr<UploadStream> OpenStream(const v1::Upload& upload) {
    auto stream = sessions_->OpenStream(alice_, upload.name());
    EXPECT_TRUE(stream.ok()) << stream.status();
    return stream.ok() ? *std::move(stream) : nullptr;
  }
  // Without other streams a chunk is taken at once.
  static absl::Status Write(UploadStream& stream, int64_t offset,
                            const std::string& bytes, uint32_t crc32c) {
    std::optional<absl::Status> taken;
    stream.Write(offset, {bytes}, crc32c,
                 [&taken](absl::Status status) { taken = status; });
    EXPECT_TRUE(taken.has_value());
    return taken.value_or(absl::UnknownError("not told"));
  }
  static absl::Status Write(UploadStream& stream, int64_t offset,
                            const std::string& bytes) {
    return Write(stream, offset, bytes, Crc32c(bytes));
  }
  absl::StatusOr<v1::Blob> Finish(const v1::Upload& upload,
                                  const std::string& bytes) {
    v1::FinishUploadRequest request;
    request.set_name(upload.name());
    request.set_sha256(Digest::Of(bytes).hex());
    return sessions_->Finish(alice_, request);
  }
  int64_t Committed(const v1::Upload& upload) {
    auto now = sessions_->Get(alice_, upload.name());
    EXPECT_TRUE(now.ok()) << now.status();
    return now.ok() ? now->committed_bytes() : -1;
  }
  bool Owns(const Caller& caller, const std::string& bytes) {
    return *IsOwner(store_.Read(), caller.user, Digest::Of(bytes));
  }

  FakeClock clock_{absl::FromUnixSeconds(1'700'000'000)};
  MemoryMetadataStore memory_records_;
  FaultyMetadataStore records_{memory_records_};
  HubStore store_{records_, clock_};
  MemoryBlobStore memory_blobs_{clock_};
  FaultyBlobStore blobs_{memory_blobs_};
  static UploadOptions SmallOptions() {
    UploadOptions options;
    options.quota.user.set_open_uploads(3);
    options.quota.user.set_stored_bytes(300'000);
    options.file.sync_bytes = 8;
    options.files_kept_max = 1;
    return options;
  }
  UploadOptions options_ = SmallOptions();
  std::unique_ptr<UploadSessions> sessions_ =
      std::make_unique<UploadSessions>(store_, blobs_, options_);
  const Caller alice_ = MakeCaller("alice", v1::User::CONTRIBUTOR);
  const Caller bob_ = MakeCaller("bob", v1::User::CONTRIBUTOR);
};

TEST_F(UploadSessionsTest, UploadBecomesABlobThatItsSenderOwns) {
  v1::Upload upload = Begin("hello world");
  EXPECT_EQ(upload.committed_bytes(), 0);
  EXPECT_FALSE(upload.complete());
  auto stream = OpenStream(upload);
  ASSERT_TRUE(Write(*stream, 0, "hello ").ok());
  ASSERT_TRUE(Write(*stream, 6, "world").ok());
  auto ended = stream->End();
  ASSERT_TRUE(ended.ok());
  EXPECT_EQ(ended->committed_bytes(), 11);
  EXPECT_EQ(ended->name(), upload.name());
  stream.reset();
  EXPECT_FALSE(Owns(alice_, "hello world"));
  auto blob = Finish(upload, "hello world");
  ASSERT_TRUE(blob.ok()) << blob.status();
  EXPECT_EQ(blob->size_bytes(), 11);
  EXPECT_TRUE(Owns(alice_, "hello world"));
  EXPECT_FALSE(Owns(bob_, "hello world"));
  EXPECT_TRUE(absl::IsNotFound(sessions_->Get(alice_, upload.name()).status()));
}

TEST_F(UploadSessionsTest, FinishingAgainIsSuccess) {
  v1::Upload upload = Begin("x");
  ASSERT_TRUE(Write(*OpenStream(upload), 0, "x").ok());
  ASSERT_TRUE(Finish(upload, "x").ok());
  auto again = Finish(upload, "x");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->sha256(), Digest::Of("x").hex());
}

TEST_F(UploadSessionsTest, BeginAgainGoesOnWhereTheUploadIs) {
  v1::Upload upload = Begin("0123456789");
  auto stream = OpenStream(upload);
  ASSERT_TRUE(Write(*stream, 0, "0123").ok());
  ASSERT_TRUE(stream->End().ok());
  stream.reset();
  Restart();
  v1::Upload again = Begin("0123456789");
  EXPECT_EQ(again.name(), upload.name());
  EXPECT_EQ(again.committed_bytes(), 4);
  ASSERT_TRUE(Write(*OpenStream(again), 4, "456789").ok());
  EXPECT_TRUE(Finish(again, "0123456789").ok());
}

TEST_F(UploadSessionsTest, BeginWithTheSameRequestIdIsTheSameUpload) {
  v1::BeginUploadRequest request;
  request.set_size_bytes(5);
  request.set_request_id("r-1");
  auto first = sessions_->Begin(alice_, request);
  auto second = sessions_->Begin(alice_, request);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->name(), second->name());
  auto bobs = sessions_->Begin(bob_, request);
  ASSERT_TRUE(bobs.ok());
  EXPECT_NE(bobs->name(), first->name());
  request.set_size_bytes(6);
  EXPECT_TRUE(
      absl::IsInvalidArgument(sessions_->Begin(alice_, request).status()));
}

TEST_F(UploadSessionsTest, BytesOfAnotherIdentityAreNotAlreadyHere) {
  v1::Upload upload = Begin("secret");
  ASSERT_TRUE(Write(*OpenStream(upload), 0, "secret").ok());
  ASSERT_TRUE(Finish(upload, "secret").ok());
  EXPECT_TRUE(Begin("secret").complete());
  EXPECT_FALSE(Begin("secret", bob_).complete());
  v1::FindMissingRequest find;
  find.add_sha256(Digest::Of("secret").hex());
  find.add_sha256(Digest::Of("unknown").hex());
  auto of_alice = sessions_->FindMissing(alice_, find);
  auto of_bob = sessions_->FindMissing(bob_, find);
  ASSERT_TRUE(of_alice.ok() && of_bob.ok());
  EXPECT_THAT(of_alice->missing(), ElementsAre(Digest::Of("unknown").hex()));
  EXPECT_EQ(of_bob->missing_size(), 2);
}

TEST_F(UploadSessionsTest, TwoUploadersOfOneDigestDoNotDisturbEachOther) {
  const std::string bytes = "0123456789";
  v1::Upload of_alice = Begin(bytes);
  v1::Upload of_bob = Begin(bytes, bob_);
  EXPECT_NE(of_alice.name(), of_bob.name());
  auto alices = OpenStream(of_alice);
  auto bobs = *sessions_->OpenStream(bob_, of_bob.name());
  ASSERT_TRUE(Write(*alices, 0, "01234").ok());
  ASSERT_TRUE(Write(*bobs, 0, "012").ok());
  ASSERT_TRUE(Write(*alices, 5, "56789").ok());
  ASSERT_TRUE(alices->End().ok());
  ASSERT_TRUE(Finish(of_alice, bytes).ok());
  // It is here now, but not for him: he goes on as if it were not.
  EXPECT_EQ(Begin(bytes, bob_).name(), of_bob.name());
  EXPECT_FALSE(Owns(bob_, bytes));
  ASSERT_TRUE(Write(*bobs, 3, "3456789").ok());
  ASSERT_TRUE(bobs->End().ok());
  v1::FinishUploadRequest finish;
  finish.set_name(of_bob.name());
  finish.set_sha256(Digest::Of(bytes).hex());
  ASSERT_TRUE(sessions_->Finish(bob_, finish).ok());
  EXPECT_TRUE(Owns(alice_, bytes) && Owns(bob_, bytes));
  // One who gives up takes nothing from the other.
  v1::Upload again = Begin("abc");
  v1::Upload dropped = Begin("abc", bob_);
  ASSERT_TRUE(sessions_->Cancel(bob_, dropped.name()).ok());
  ASSERT_TRUE(Write(*OpenStream(again), 0, "abc").ok());
  EXPECT_TRUE(Finish(again, "abc").ok());
}

TEST_F(UploadSessionsTest, UploadsOfOthersDoNotExist) {
  v1::Upload upload = Begin("x");
  EXPECT_TRUE(absl::IsNotFound(sessions_->Get(bob_, upload.name()).status()));
  EXPECT_TRUE(
      absl::IsNotFound(sessions_->OpenStream(bob_, upload.name()).status()));
  EXPECT_TRUE(sessions_->Cancel(bob_, upload.name()).ok());
  EXPECT_EQ(Committed(upload), 0);
  v1::FinishUploadRequest finish;
  finish.set_name(upload.name());
  finish.set_sha256(Digest::Of("x").hex());
  EXPECT_TRUE(absl::IsNotFound(sessions_->Finish(bob_, finish).status()));
}

TEST_F(UploadSessionsTest, ReadersAndStrangersMayNotUpload) {
  const Caller reader = MakeCaller("r", v1::User::READER);
  EXPECT_TRUE(absl::IsPermissionDenied(sessions_->Begin(reader, {}).status()));
  EXPECT_TRUE(absl::IsUnauthenticated(sessions_->Batch({}, {}).status()));
  EXPECT_TRUE(absl::IsUnauthenticated(sessions_->FindMissing({}, {}).status()));
}

TEST_F(UploadSessionsTest, ResentRangesAreComparedAndNeverAppended) {
  v1::Upload upload = Begin("0123456789");
  auto stream = OpenStream(upload);
  ASSERT_TRUE(Write(*stream, 0, "01234").ok());
  EXPECT_TRUE(Write(*stream, 0, "01234").ok());
  EXPECT_TRUE(Write(*stream, 2, "23").ok());
  EXPECT_EQ(stream->End()->committed_bytes(), 5);
  absl::Status differs = Write(*stream, 2, "2X");
  EXPECT_TRUE(absl::IsInvalidArgument(differs)) << differs;
  EXPECT_THAT(std::string(differs.message()), HasSubstr("differs"));
  EXPECT_TRUE(Write(*stream, 3, "3456789").ok());
  EXPECT_EQ(stream->End()->committed_bytes(), 10);
  stream.reset();
  EXPECT_TRUE(Finish(upload, "0123456789").ok());
}

TEST_F(UploadSessionsTest, RejectsChunkPastDeclaredSize) {
  v1::Upload upload = Begin("0123456789");
  auto stream = OpenStream(upload);
  for (int64_t offset : {int64_t{8}, int64_t{11}, int64_t{-1}, INT64_MAX}) {
    absl::Status status = Write(*stream, offset, "abc");
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << offset << " " << status;
  }
  EXPECT_EQ(stream->End()->committed_bytes(), 0);
}

TEST_F(UploadSessionsTest, RejectsGapsBrokenAndOversizedChunks) {
  v1::Upload upload = Begin(std::string(kChunkBytes + 1, 'x'));
  auto stream = OpenStream(upload);
  absl::Status gap = Write(*stream, 5, "abc");
  EXPECT_TRUE(absl::IsFailedPrecondition(gap)) << gap;
  EXPECT_EQ(GetReason(gap)->details.at("committed_bytes"), "0");
  EXPECT_TRUE(absl::IsInvalidArgument(Write(*stream, 0, "abc", 1)));
  absl::Status large =
      Write(*stream, 0, std::string(static_cast<size_t>(kChunkBytes + 1), 'x'));
  EXPECT_TRUE(absl::IsInvalidArgument(large));
  EXPECT_EQ(GetReason(large)->code, "LIMIT_EXCEEDED");
}

TEST_F(UploadSessionsTest, SecondStreamGoesOnWhereTheFirstIs) {
  v1::Upload upload = Begin("0123456789");
  auto first = OpenStream(upload);
  ASSERT_TRUE(Write(*first, 0, "01234567").ok());  // sync_bytes: synced
  ASSERT_TRUE(Write(*first, 8, "8").ok());
  EXPECT_EQ(Committed(upload), 8);
  auto second = OpenStream(upload);
  ASSERT_TRUE(Write(*second, 8, "8").ok());  // compared
  ASSERT_TRUE(Write(*second, 9, "9").ok());
  EXPECT_EQ(first->End()->committed_bytes(), 10);
}

TEST_F(UploadSessionsTest, FinishingEndsTheStreamsThatAreLeft) {
  v1::Upload upload = Begin("0123456789");
  auto stale = OpenStream(upload);
  ASSERT_TRUE(Write(*OpenStream(upload), 0, "0123456789").ok());
  ASSERT_TRUE(Finish(upload, "0123456789").ok());
  EXPECT_TRUE(absl::IsAborted(Write(*stale, 0, "0")));
  EXPECT_TRUE(absl::IsAborted(stale->End().status()));
}

TEST_F(UploadSessionsTest, StreamsShareAnUploadByParts) {
  v1::Upload upload = Begin("0123456789");
  auto open = [&] {
    return *sessions_->OpenStream(alice_, upload.name(), UploadOrder::kShared);
  };
  auto first = open();
  auto second = open();
  std::optional<absl::Status> ahead;
  const std::string later = "456789";
  second->Write(4, {later}, Crc32c(later),
                [&](absl::Status status) { ahead = status; });
  EXPECT_FALSE(ahead.has_value());
  ASSERT_TRUE(Write(*first, 0, "0123").ok());
  ASSERT_TRUE(ahead.has_value());
  EXPECT_TRUE(ahead->ok()) << *ahead;
  EXPECT_EQ(second->End()->committed_bytes(), 10);
  EXPECT_TRUE(Finish(upload, "0123456789").ok());
}

TEST_F(UploadSessionsTest, WhatABrokenStreamSyncedSurvivesARestart) {
  v1::Upload upload = Begin("0123456789");
  auto stream = OpenStream(upload);
  ASSERT_TRUE(Write(*stream, 0, "01234567").ok());
  ASSERT_TRUE(Write(*stream, 8, "8").ok());
  stream.reset();
  Restart();
  EXPECT_GE(Committed(upload), 8);
}

TEST_F(UploadSessionsTest, ManyUploadsGoOnThoughWritersAreLetGo) {
  std::vector<std::pair<std::string, v1::Upload>> uploads;
  for (const char* bytes : {"aaaa", "bbbb", "cccc"}) {
    uploads.emplace_back(bytes, Begin(bytes));
  }
  for (int64_t at = 0; at < 4; ++at) {
    for (auto& [bytes, upload] : uploads) {
      auto stream = OpenStream(upload);
      ASSERT_TRUE(
          Write(*stream, at, bytes.substr(static_cast<size_t>(at), 1)).ok());
      ASSERT_TRUE(stream->End().ok());
    }
  }
  for (auto& [bytes, upload] : uploads) {
    EXPECT_TRUE(Finish(upload, bytes).ok());
  }
}

TEST_F(UploadSessionsTest, OpenUploadsAreLimitedByIdentity) {
  for (const char* bytes : {"a", "b", "c"}) Begin(bytes);
  v1::BeginUploadRequest request;
  request.set_size_bytes(1);
  absl::Status status = sessions_->Begin(alice_, request).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_EQ(GetReason(status)->code, "QUOTA_EXCEEDED");
  EXPECT_FALSE(GetRetryDelay(status).has_value());
  EXPECT_TRUE(sessions_->Begin(bob_, request).ok());
  EXPECT_EQ(Begin("a").committed_bytes(), 0);  // the open one is found
}

TEST_F(UploadSessionsTest, StoredBytesAreLimitedByIdentity) {
  const std::string most(200'000, 'x');
  v1::Upload upload = Begin(most);
  v1::BeginUploadRequest request;
  request.set_size_bytes(100'001);
  EXPECT_EQ(GetReason(sessions_->Begin(alice_, request).status())->code,
            "QUOTA_EXCEEDED");
  ASSERT_TRUE(Write(*OpenStream(upload), 0, most).ok());
  ASSERT_TRUE(Finish(upload, most).ok());
  absl::Status status = sessions_->Begin(alice_, request).status();
  ASSERT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_EQ(GetReason(status)->details.at("used"), "200000");
  EXPECT_EQ(GetReason(status)->details.at("limit"), "300000");
  v1::BatchUploadRequest batch;
  auto* item = batch.add_items();
  item->set_data(std::string(100'001, 'y'));
  item->set_sha256(Digest::Of(item->data()).hex());
  EXPECT_EQ(GetReason(sessions_->Batch(alice_, batch).status())->code,
            "QUOTA_EXCEEDED");
  // What is here already costs nothing, and others have their own.
  EXPECT_TRUE(Begin(most).complete());
  EXPECT_TRUE(sessions_->Begin(bob_, request).ok());
}

TEST_F(UploadSessionsTest, SizesAreChecked) {
  v1::BeginUploadRequest request;
  request.set_size_bytes(-1);
  EXPECT_TRUE(
      absl::IsInvalidArgument(sessions_->Begin(alice_, request).status()));
  request.set_size_bytes(options_.bytes_max + 1);
  absl::Status status = sessions_->Begin(alice_, request).status();
  EXPECT_EQ(GetReason(status)->code, "LIMIT_EXCEEDED");
  request.set_size_bytes(1);
  request.set_sha256("no digest");
  EXPECT_TRUE(
      absl::IsInvalidArgument(sessions_->Begin(alice_, request).status()));
}

TEST_F(UploadSessionsTest, EmptyUploadFinishes) {
  v1::Upload upload = Begin("");
  auto blob = Finish(upload, "");
  ASSERT_TRUE(blob.ok()) << blob.status();
  EXPECT_TRUE(Owns(alice_, ""));
}

TEST_F(UploadSessionsTest, UnfinishedUploadCannotBeFinished) {
  v1::Upload upload = Begin("0123456789");
  ASSERT_TRUE(Write(*OpenStream(upload), 0, "01234").ok());
  absl::Status status = Finish(upload, "0123456789").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("5 of 10"));
  EXPECT_EQ(Committed(upload), 5);
}

TEST_F(UploadSessionsTest, BytesThatHashToSomethingElseEndTheUpload) {
  v1::Upload upload = Begin("good");
  ASSERT_TRUE(Write(*OpenStream(upload), 0, "evil").ok());
  absl::Status status = Finish(upload, "good").status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_FALSE(Owns(alice_, "good"));
  EXPECT_FALSE(Owns(alice_, "evil"));
  EXPECT_TRUE(absl::IsNotFound(sessions_->Get(alice_, upload.name()).status()));
  EXPECT_THAT(*memory_blobs_.ListUploads(), IsEmpty());
}

TEST_F(UploadSessionsTest, UploadBegunForOneDigestCannotBecomeAnother) {
  v1::Upload upload = Begin("good");
  absl::Status status = Finish(upload, "else").status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_EQ(Committed(upload), 0);
}

TEST_F(UploadSessionsTest, FullDiskKeepsWhatIsThere) {
  v1::Upload upload = Begin("0123456789");
  auto stream = OpenStream(upload);
  ASSERT_TRUE(Write(*stream, 0, "01234").ok());
  blobs_.FailNth(BlobFault::kAppend, 1, absl::ResourceExhaustedError("full"));
  EXPECT_TRUE(absl::IsResourceExhausted(Write(*stream, 5, "56789")));
  EXPECT_EQ(stream->End()->committed_bytes(), 5);
  EXPECT_TRUE(Write(*stream, 5, "56789").ok());
  stream.reset();
  EXPECT_TRUE(Finish(upload, "0123456789").ok());
}

TEST_F(UploadSessionsTest, FailedSyncIsNotAcknowledged) {
  v1::Upload upload = Begin("0123456789");
  auto stream = OpenStream(upload);
  blobs_.FailNth(BlobFault::kSync, 1, absl::UnavailableError("no disk"));
  EXPECT_TRUE(absl::IsUnavailable(Write(*stream, 0, "01234567")));
}

TEST_F(UploadSessionsTest, FailedCommitCanBeRepeated) {
  v1::Upload upload = Begin("0123456789");
  auto stream = OpenStream(upload);
  ASSERT_TRUE(Write(*stream, 0, "0123456789").ok());
  ASSERT_TRUE(stream->End().ok());
  stream.reset();
  blobs_.FailNth(BlobFault::kCommit, 1, absl::UnavailableError("no disk"));
  EXPECT_TRUE(absl::IsUnavailable(Finish(upload, "0123456789").status()));
  EXPECT_TRUE(Finish(upload, "0123456789").ok());
}

TEST_F(UploadSessionsTest, CrashBetweenBlobAndRecordIsFinishedAgain) {
  v1::Upload upload = Begin("0123456789");
  ASSERT_TRUE(Write(*OpenStream(upload), 0, "0123456789").ok());
  records_.FailNth(1, FaultyMetadataStore::When::kBeforeCommit,
                   absl::UnavailableError("killed"));
  EXPECT_FALSE(Finish(upload, "0123456789").ok());
  Restart();
  EXPECT_FALSE(Owns(alice_, "0123456789"));
  EXPECT_EQ(Begin("0123456789").committed_bytes(), 10);
  EXPECT_TRUE(Finish(upload, "0123456789").ok());
  EXPECT_TRUE(Owns(alice_, "0123456789"));
  EXPECT_THAT(*memory_blobs_.ListUploads(), IsEmpty());
}

TEST_F(UploadSessionsTest, LostAnswerOfFinishIsHarmless) {
  v1::Upload upload = Begin("x");
  ASSERT_TRUE(Write(*OpenStream(upload), 0, "x").ok());
  records_.FailNth(1, FaultyMetadataStore::When::kAfterCommit,
                   absl::UnavailableError("killed"));
  EXPECT_FALSE(Finish(upload, "x").ok());
  EXPECT_TRUE(Finish(upload, "x").ok());
}

TEST_F(UploadSessionsTest, CancelledUploadIsGoneAndCancelRepeats) {
  v1::Upload upload = Begin("x");
  ASSERT_TRUE(sessions_->Cancel(alice_, upload.name()).ok());
  ASSERT_TRUE(sessions_->Cancel(alice_, upload.name()).ok());
  EXPECT_TRUE(absl::IsNotFound(sessions_->Get(alice_, upload.name()).status()));
  EXPECT_THAT(*memory_blobs_.ListUploads(), IsEmpty());
}

TEST_F(UploadSessionsTest, BatchStoresAllOrNothing) {
  v1::BatchUploadRequest batch;
  for (const char* bytes : {"one", "two", ""}) {
    auto* item = batch.add_items();
    item->set_data(bytes);
    item->set_sha256(Digest::Of(bytes).hex());
  }
  auto stored = sessions_->Batch(alice_, batch);
  ASSERT_TRUE(stored.ok()) << stored.status();
  ASSERT_EQ(stored->blobs_size(), 3);
  EXPECT_EQ(stored->blobs(1).sha256(), Digest::Of("two").hex());
  EXPECT_TRUE(Owns(alice_, "one"));

  v1::BatchUploadRequest broken;
  for (const char* bytes : {"three", "four"}) {
    auto* item = broken.add_items();
    item->set_data(bytes);
    item->set_sha256(Digest::Of("three").hex());
  }
  absl::Status status = sessions_->Batch(alice_, broken).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("item 1"));
  EXPECT_TRUE(absl::IsNotFound(blobs_.Stat(Digest::Of("three")).status()));
}

TEST_F(UploadSessionsTest, BatchesAndQuestionsAreLimited) {
  v1::BatchUploadRequest batch;
  auto* item = batch.add_items();
  item->set_data(std::string(kBatchUploadBytesMax + 1, 'x'));
  EXPECT_EQ(GetReason(sessions_->Batch(alice_, batch).status())->code,
            "LIMIT_EXCEEDED");
  v1::FindMissingRequest find;
  for (int i = 0; i <= kFindMissingMax; ++i) find.add_sha256("x");
  EXPECT_EQ(GetReason(sessions_->FindMissing(alice_, find).status())->code,
            "LIMIT_EXCEEDED");
}

TEST_F(UploadSessionsTest, IdleUploadsAreDropped) {
  v1::Upload idle = Begin("idle");
  v1::Upload busy = Begin("busy");
  auto stream = OpenStream(busy);
  clock_.Advance(absl::Hours(23));
  v1::Upload kept = Begin("kept");
  clock_.Advance(absl::Hours(2));
  auto dropped = sessions_->RunPass();
  ASSERT_TRUE(dropped.ok()) << dropped.status();
  EXPECT_EQ(*dropped, 1);
  EXPECT_TRUE(absl::IsNotFound(sessions_->Get(alice_, idle.name()).status()));
  EXPECT_EQ(Committed(kept), 0);
  EXPECT_EQ(Committed(busy), 0);
}

TEST_F(UploadSessionsTest, StreamingKeepsAnUploadAlive) {
  v1::Upload upload = Begin("0123456789");
  clock_.Advance(absl::Hours(20));
  OpenStream(upload);
  clock_.Advance(absl::Hours(20));
  EXPECT_EQ(*sessions_->RunPass(), 0);
  EXPECT_EQ(Committed(upload), 0);
}

TEST_F(UploadSessionsTest, BytesWithoutARecordAreDropped) {
  ASSERT_TRUE(blobs_.Begin("orphan").ok());
  EXPECT_EQ(*sessions_->RunPass(), 1);
  EXPECT_THAT(*memory_blobs_.ListUploads(), IsEmpty());
}

TEST_F(UploadSessionsTest, OwnersOfSweptBlobsAreForgotten) {
  v1::Upload upload = Begin("x");
  ASSERT_TRUE(Write(*OpenStream(upload), 0, "x").ok());
  ASSERT_TRUE(Finish(upload, "x").ok());
  ASSERT_TRUE(blobs_.Remove(Digest::Of("x")).ok());
  EXPECT_FALSE(Begin("x").complete());
  clock_.Advance(absl::Hours(25));
  ASSERT_TRUE(sessions_->RunPass().ok());
  EXPECT_FALSE(Owns(alice_, "x"));
}

TEST_F(UploadSessionsTest, ClaimTakesOnlyWhatTheUserSent) {
  v1::Upload upload = Begin("mine");
  ASSERT_TRUE(Write(*OpenStream(upload), 0, "mine").ok());
  ASSERT_TRUE(Finish(upload, "mine").ok());
  const Digest mine = Digest::Of("mine");
  auto claimed = ClaimBlobs(store_.Read(), blobs_, alice_.user, {mine});
  ASSERT_TRUE(claimed.ok()) << claimed.status();
  EXPECT_EQ(claimed->at(0).size_bytes, 4);
  absl::Status others =
      ClaimBlobs(store_.Read(), blobs_, bob_.user, {mine}).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(others)) << others;
  EXPECT_EQ(GetReason(others)->details.at("sha256"), mine.hex());
}

}  // namespace
}  // namespace cairn
