// Many peers of a hub at once, slow ones and fast ones, so that somebody else
// can look at the hub's memory:
//
//   slow_peers upload ADDRESS CA TOKEN UPLOADS CONNECTIONS MOVING SECONDS
//     opens UPLOADS uploads; MOVING of them send as fast as they may, all
//     others a chunk a second. Who is refused comes again when told to.
//   slow_peers read ADDRESS CA TOKEN RELEASE FILE READERS SECONDS
//     READERS read the file, a chunk a second.
//
// Prints one line of JSON: what was begun, moved, refused, failed.

#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "cairn/v1/transfer.grpc.pb.h"
#include "core/base/digest.h"
#include "core/base/log.h"
#include "core/base/status_util.h"
#include "core/rpc/grpc_status.h"

namespace cairn {
namespace {

using v1::DownloadService;
using v1::UploadService;

constexpr int64_t kUploadBytes = int64_t{1} << 30;
constexpr size_t kMessageBytes = 64 << 10;
// A fast sender ends its stream after so many and begins the next.
constexpr int kMessagesAStream = 512;
constexpr absl::Duration kSlowness = absl::Seconds(1);
constexpr absl::Duration kAgain = absl::Seconds(1);

std::string Slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

struct Totals {
  std::atomic<int64_t> begun = 0;
  std::atomic<int64_t> messages = 0;
  std::atomic<int64_t> refused = 0;
  std::atomic<int64_t> failed = 0;
  std::atomic<int> streaming = 0;
  std::atomic<bool> is_over = false;
};

Totals totals;
std::string token;

void Authorize(grpc::ClientContext& context) {
  context.AddMetadata("authorization", "Bearer " + token);
}

std::shared_ptr<grpc::Channel> Connect(const std::string& address,
                                       const std::string& ca) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = ca;
  return grpc::CreateCustomChannel(address, grpc::SslCredentials(options),
                                   arguments);
}

// Counts how a stream ended; for how long to stay away.
absl::Duration NoteEnd(const grpc::Status& ended) {
  const absl::Status status = FromGrpcStatus(ended);
  if (absl::IsResourceExhausted(status) || absl::IsAborted(status)) {
    ++totals.refused;
  } else if (!status.ok() && !totals.is_over) {
    if (++totals.failed <= 5) {
      std::fprintf(stderr, "%s\n", status.ToString().c_str());
    }
  }
  return GetRetryDelay(status).value_or(kAgain);
}

// One upload, sent in stream after stream until all is over. Deleted by
// nobody: the process ends.
class Sender : public grpc::ClientWriteReactor<v1::WriteUploadRequest> {
 public:
  Sender(std::shared_ptr<grpc::Channel> channel, std::string name, bool is_fast)
      : stub_(channel), is_fast_(is_fast) {
    request_.set_name(std::move(name));
    request_.set_chunk(std::string(kMessageBytes, 'x'));
    request_.set_crc32c(Crc32c(request_.chunk()));
  }

  void Start() {
    if (totals.is_over) return;
    context_ = std::make_unique<grpc::ClientContext>();
    Authorize(*context_);
    sent_ = 0;
    ++totals.streaming;
    request_.set_offset(committed_);
    stub_.async()->WriteUpload(context_.get(), &reply_, this);
    StartWrite(&request_);
    StartCall();
  }

  void OnWriteDone(bool ok) override {
    if (!ok) return;  // OnDone says why
    ++totals.messages;
    request_.set_offset(request_.offset() +
                        static_cast<int64_t>(kMessageBytes));
    const bool is_enough = is_fast_ && ++sent_ == kMessagesAStream;
    if (totals.is_over || is_enough || request_.offset() >= kUploadBytes) {
      StartWritesDone();
    } else if (is_fast_) {
      StartWrite(&request_);
    } else {
      AddHold();
      alarm_.Set(absl::ToChronoTime(absl::Now() + kSlowness), [this](bool) {
        StartWrite(&request_);
        RemoveHold();
      });
    }
  }

  void OnDone(const grpc::Status& status) override {
    --totals.streaming;
    if (status.ok()) committed_ = reply_.committed_bytes();
    if (committed_ >= kUploadBytes) return;
    const absl::Duration delay =
        status.ok() ? absl::ZeroDuration() : NoteEnd(status);
    again_.Set(absl::ToChronoTime(absl::Now() + delay),
               [this](bool) { Start(); });
  }

 private:
  UploadService::Stub stub_;
  const bool is_fast_;
  std::unique_ptr<grpc::ClientContext> context_;
  v1::WriteUploadRequest request_;
  v1::Upload reply_;
  grpc::Alarm alarm_;
  grpc::Alarm again_;
  int64_t committed_ = 0;
  int sent_ = 0;
};

class Reader : public grpc::ClientReadReactor<v1::ReadResponse> {
 public:
  Reader(std::shared_ptr<grpc::Channel> channel, v1::ReadRequest request)
      : stub_(channel), request_(std::move(request)) {}

  void Start() {
    if (totals.is_over) return;
    context_ = std::make_unique<grpc::ClientContext>();
    Authorize(*context_);
    ++totals.begun;
    ++totals.streaming;
    stub_.async()->Read(context_.get(), &request_, this);
    StartRead(&response_);
    StartCall();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    ++totals.messages;
    AddHold();
    alarm_.Set(absl::ToChronoTime(absl::Now() + kSlowness), [this](bool) {
      StartRead(&response_);
      RemoveHold();
    });
  }

  void OnDone(const grpc::Status& status) override {
    --totals.streaming;
    again_.Set(absl::ToChronoTime(absl::Now() + NoteEnd(status)),
               [this](bool) { Start(); });
  }

 private:
  DownloadService::Stub stub_;
  const v1::ReadRequest request_;
  std::unique_ptr<grpc::ClientContext> context_;
  v1::ReadResponse response_;
  grpc::Alarm alarm_;
  grpc::Alarm again_;
};

std::string Begin(const std::shared_ptr<grpc::Channel>& channel, int index) {
  UploadService::Stub stub(channel);
  grpc::ClientContext context;
  Authorize(context);
  v1::BeginUploadRequest request;
  request.set_size_bytes(kUploadBytes);
  request.set_request_id(absl::StrCat("slow-", index));
  v1::Upload upload;
  const grpc::Status begun = stub.BeginUpload(&context, request, &upload);
  if (!begun.ok()) std::fprintf(stderr, "%s\n", begun.error_message().c_str());
  CAIRN_CHECK(begun.ok());
  ++totals.begun;
  return upload.name();
}

void RunFor(const std::string& seconds) {
  std::printf("ready\n");
  std::fflush(stdout);
  int64_t most = 0;
  const absl::Time end = absl::Now() + absl::Seconds(std::stoi(seconds));
  while (absl::Now() < end) {
    absl::SleepFor(absl::Milliseconds(100));
    most = std::max<int64_t>(most, totals.streaming);
  }
  totals.is_over = true;
  std::printf(
      "{\"begun\": %lld, \"streaming_most\": %lld, \"messages\": %lld, "
      "\"megabytes\": %.1f, \"refused\": %lld, \"failed\": %lld}\n",
      static_cast<long long>(totals.begun), static_cast<long long>(most),
      static_cast<long long>(totals.messages),
      static_cast<double>(totals.messages) * kMessageBytes / 1e6,
      static_cast<long long>(totals.refused),
      static_cast<long long>(totals.failed));
  std::fflush(stdout);
}

void Upload(const std::vector<std::string>& args) {
  const int uploads = std::stoi(args[4]);
  const int connections = std::stoi(args[5]);
  const int moving = std::stoi(args[6]);
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (int i = 0; i < connections; ++i) {
    channels.push_back(Connect(args[1], args[2]));
  }
  std::vector<std::unique_ptr<Sender>> senders;
  for (int i = 0; i < uploads; ++i) {
    auto& channel = channels[static_cast<size_t>(i % connections)];
    senders.push_back(
        std::make_unique<Sender>(channel, Begin(channel, i), i < moving));
  }
  for (auto& sender : senders) sender->Start();
  RunFor(args[7]);
  std::_Exit(0);
}

void Read(const std::vector<std::string>& args) {
  v1::ReadRequest request;
  request.mutable_release_file()->set_release(args[4]);
  request.mutable_release_file()->set_path(args[5]);
  std::vector<std::unique_ptr<Reader>> readers;
  for (int i = 0; i < std::stoi(args[6]); ++i) {
    readers.push_back(
        std::make_unique<Reader>(Connect(args[1], args[2]), request));
  }
  for (auto& reader : readers) reader->Start();
  RunFor(args[7]);
  std::_Exit(0);
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) {
  std::vector<std::string> args(argv + 1, argv + argc);
  if (args.size() != 8 || (args[0] != "upload" && args[0] != "read")) {
    std::fprintf(stderr, "usage: see the top of slow_peers.cc\n");
    return 2;
  }
  args[2] = cairn::Slurp(args[2]);
  cairn::token = cairn::Slurp(args[3]);
  while (!cairn::token.empty() && cairn::token.back() == '\n') {
    cairn::token.pop_back();
  }
  args[0] == "upload" ? cairn::Upload(args) : cairn::Read(args);
}
