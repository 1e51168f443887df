#ifndef CAIRN_CORE_RPC_SERVER_STREAM_H_
#define CAIRN_CORE_RPC_SERVER_STREAM_H_

#include <grpcpp/alarm.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "core/base/thread_pool.h"
#include "core/rpc/grpc_status.h"
#include "core/rpc/server_call.h"
#include "core/rpc/stream_gate.h"

namespace cairn {

// Takes what a client streams, one message at a time, on a pool's threads.
// Destroyed before the peer hears that the call is over.
template <typename Request, typename Response>
class StreamSink {
 public:
  using Done = absl::AnyInvocable<void(absl::Status)>;
  virtual ~StreamSink() = default;
  // The next message, which stays until `done` is called, once, by any thread;
  // what is taken out of it need not wait in memory for the next one.
  // An error ends the call; End() is not called then. The sink may be gone
  // after `done`.
  virtual void Take(Request& request, Done done) = 0;
  // The client is gone: what Take() has not done yet is done soon. Comes from
  // any thread, at any time, perhaps after End().
  virtual void Cancel() {}
  // The client sent all it wants to, or is gone: then nobody hears the answer.
  virtual absl::StatusOr<Response> End() = 0;
};

// Makes what a client is streamed, one message at a time, on a pool's
// threads. Destroyed before the peer hears that the call is over.
template <typename Response>
class StreamSource {
 public:
  enum class Step {
    kMessage,  // `response` was filled
    kWait,     // nothing now: ask again later
    kEnd,      // that was all
  };
  virtual ~StreamSource() = default;
  // Fills the next message. An error ends the call.
  virtual absl::StatusOr<Step> Next(Response& response) = 0;
};

namespace internal {

// One message is in flight at a time: read, taken, then the next is read. So
// memory is one message a stream, whatever the client sends.
template <typename Request, typename Response>
class ReceivingReactor : public grpc::ServerReadReactor<Request> {
 public:
  ReceivingReactor(ThreadPool& pool, Response* response,
                   std::unique_ptr<StreamSink<Request, Response>> sink,
                   std::unique_ptr<StreamGate::Pass> pass)
      : pool_(pool),
        response_(response),
        pass_(std::move(pass)),
        sink_(std::move(sink)) {
    baton_.Give();
    this->StartSendInitialMetadata();
    this->StartRead(&request_);
  }

  void OnCancel() override {
    std::shared_ptr<Sink> sink;
    {
      MutexLock lock(mutex_);
      sink = sink_;
    }
    if (sink != nullptr) sink->Cancel();
  }

  void OnReadDone(bool ok) override {
    baton_.Take();
    RunOn(
        pool_, [this, ok] { ok ? Take() : End(); },
        [this](absl::Status status) { Close(ToGrpcStatus(status)); });
  }
  void OnDone() override {
    baton_.Take();
    delete this;
  }

 private:
  using Sink = StreamSink<Request, Response>;

  void Take() {
    if (pass_ != nullptr) pass_->Moved();
    Sink* sink = sink_.get();
    baton_.Give();
    sink->Take(request_, [this](absl::Status status) {
      baton_.Take();
      if (!status.ok()) return Close(ToGrpcStatus(status));
      baton_.Give();
      this->StartRead(&request_);
    });
  }
  void End() {
    absl::StatusOr<Response> result = sink_->End();
    if (result.ok()) *response_ = *std::move(result);
    Close(ToGrpcStatus(result.status()));
  }
  // What the stream held is free before the peer hears of the end.
  void Close(const grpc::Status& status) {
    std::shared_ptr<Sink> sink;
    {
      MutexLock lock(mutex_);
      sink.swap(sink_);
    }
    sink.reset();
    pass_.reset();
    baton_.Give();
    this->Finish(status);
  }

  ThreadPool& pool_;
  Response* const response_;
  std::unique_ptr<StreamGate::Pass> pass_;
  // Changed under the lock, as OnCancel() may come at any time.
  Mutex mutex_;
  std::shared_ptr<Sink> sink_;  // shared with OnCancel() while it runs
  Request request_;
  Baton baton_;
};

// One message is in flight at a time: made, written, then the next is made.
template <typename Response>
class SendingReactor : public grpc::ServerWriteReactor<Response> {
 public:
  SendingReactor(grpc::CallbackServerContext* context, ThreadPool& pool,
                 std::unique_ptr<StreamSource<Response>> source,
                 std::unique_ptr<StreamGate::Pass> pass,
                 absl::Duration interval)
      : context_(context),
        pool_(pool),
        interval_(interval),
        pass_(std::move(pass)),
        source_(std::move(source)) {
    Hop();
  }

  void OnWriteDone(bool ok) override {
    baton_.Take();
    if (!ok) return Close(grpc::Status::CANCELLED);
    if (pass_ != nullptr) pass_->Moved();
    Hop();
  }
  void OnDone() override {
    baton_.Take();
    delete this;
  }

 private:
  using Step = typename StreamSource<Response>::Step;

  void Hop() {
    RunOn(
        pool_, [this] { Advance(); },
        [this](absl::Status status) { Close(ToGrpcStatus(status)); });
  }

  void Advance() {
    if (context_->IsCancelled()) return Close(grpc::Status::CANCELLED);
    absl::StatusOr<Step> step = source_->Next(response_);
    if (!step.ok()) return Close(ToGrpcStatus(step.status()));
    switch (*step) {
      case Step::kMessage:
        baton_.Give();
        return this->StartWrite(&response_);
      case Step::kWait:
        baton_.Give();
        return alarm_.Set(absl::ToChronoTime(absl::Now() + interval_),
                          [this](bool) {
                            baton_.Take();
                            Hop();
                          });
      case Step::kEnd:
        return Close(grpc::Status::OK);
    }
  }

  // What the stream held is free before the peer hears of the end.
  void Close(const grpc::Status& status) {
    source_.reset();
    pass_.reset();
    baton_.Give();
    this->Finish(status);
  }

  grpc::CallbackServerContext* const context_;
  ThreadPool& pool_;
  const absl::Duration interval_;
  std::unique_ptr<StreamGate::Pass> pass_;
  std::unique_ptr<StreamSource<Response>> source_;
  Response response_;
  Baton baton_;
  grpc::Alarm alarm_;
};

// Ends a call at once.
template <typename Base>
class EndedReactor : public Base {
 public:
  explicit EndedReactor(const absl::Status& status) {
    this->Finish(ToGrpcStatus(status));
  }
  void OnDone() override { delete this; }
};

}  // namespace internal

// Answers a client-streaming call with what `sink` makes of it; that it was let
// in is told at once, by the initial metadata. `pass`, if there is one, is
// given back at the end.
template <typename Request, typename Response>
grpc::ServerReadReactor<Request>* ReceiveStream(
    ThreadPool& pool, Response* response,
    std::unique_ptr<StreamSink<Request, Response>> sink,
    std::unique_ptr<StreamGate::Pass> pass) {
  return new internal::ReceivingReactor<Request, Response>(
      pool, response, std::move(sink), std::move(pass));
}

// Answers a server-streaming call with what `source` makes. While it has
// nothing it is asked every `interval`; no thread is held in between.
template <typename Response>
grpc::ServerWriteReactor<Response>* SendStream(
    grpc::CallbackServerContext* context, ThreadPool& pool,
    std::unique_ptr<StreamSource<Response>> source,
    std::unique_ptr<StreamGate::Pass> pass,
    absl::Duration interval = absl::Milliseconds(100)) {
  return new internal::SendingReactor<Response>(
      context, pool, std::move(source), std::move(pass), interval);
}

// Refuse a stream before it begins.
template <typename Request>
grpc::ServerReadReactor<Request>* RefuseReceiving(const absl::Status& status) {
  return new internal::EndedReactor<grpc::ServerReadReactor<Request>>(status);
}
template <typename Response>
grpc::ServerWriteReactor<Response>* RefuseSending(const absl::Status& status) {
  return new internal::EndedReactor<grpc::ServerWriteReactor<Response>>(status);
}

}  // namespace cairn

#endif  // CAIRN_CORE_RPC_SERVER_STREAM_H_
