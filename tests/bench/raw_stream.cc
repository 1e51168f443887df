// The baseline of the transfer benchmarks: one gRPC stream that moves a file's
// bytes in 256 KiB messages and does nothing else. The receiver writes and
// fsyncs, and hashes what is pushed with SHA-256; there are no checksums,
// records or checks.
//
//   raw_stream serve CERT KEY DIR READY_FILE    until killed; READY_FILE gets
//                                               the TLS and the plain address
//   raw_stream push CA ADDRESS FILE             FILE -> DIR/received
//   raw_stream pull CA ADDRESS FILE OUT         FILE -> OUT
//
// With "-" for CA the connection is plain.

#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "cairn/v1/transfer.grpc.pb.h"
#include "core/base/digest.h"
#include "core/base/log.h"

namespace cairn {
namespace {

constexpr size_t kMessageBytes = 256 << 10;

std::string Slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

int Create(const std::string& path) {
  int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  CAIRN_CHECK(fd >= 0);
  return fd;
}

void WriteAll(int fd, const std::string& bytes) {
  for (size_t at = 0; at < bytes.size();) {
    ssize_t n = ::write(fd, bytes.data() + at, bytes.size() - at);
    CAIRN_CHECK(n > 0);
    at += static_cast<size_t>(n);
  }
}

void Finish(int fd) {
  CAIRN_CHECK(::fsync(fd) == 0);
  ::close(fd);
}

// Calls `send` with the file's bytes, a message at a time.
template <typename Send>
void ForEachMessage(const std::string& path, Send send) {
  int fd = ::open(path.c_str(), O_RDONLY);
  CAIRN_CHECK(fd >= 0);
  std::string chunk(kMessageBytes, '\0');
  while (true) {
    ssize_t n = ::read(fd, chunk.data(), kMessageBytes);
    CAIRN_CHECK(n >= 0);
    if (n == 0) break;
    if (!send(chunk.substr(0, static_cast<size_t>(n)))) break;
  }
  ::close(fd);
}

class RawUpload : public v1::UploadService::Service {
 public:
  explicit RawUpload(std::string dir) : dir_(std::move(dir)) {}

  grpc::Status WriteUpload(grpc::ServerContext* /*context*/,
                           grpc::ServerReader<v1::WriteUploadRequest>* reader,
                           v1::Upload* response) override {
    int fd = Create(absl::StrCat(dir_, "/received"));
    v1::WriteUploadRequest request;
    int64_t total = 0;
    Hasher hasher;
    while (reader->Read(&request)) {
      hasher.Update(request.chunk());
      WriteAll(fd, request.chunk());
      total += static_cast<int64_t>(request.chunk().size());
    }
    Finish(fd);
    response->set_committed_bytes(total);
    response->set_name(hasher.FinishHex());
    return grpc::Status::OK;
  }

 private:
  const std::string dir_;
};

class RawDownload : public v1::DownloadService::Service {
 public:
  grpc::Status Read(grpc::ServerContext* /*context*/,
                    const v1::ReadRequest* request,
                    grpc::ServerWriter<v1::ReadResponse>* writer) override {
    ForEachMessage(request->release_file().path(), [&](std::string chunk) {
      v1::ReadResponse response;
      response.set_chunk(std::move(chunk));
      return writer->Write(response);
    });
    return grpc::Status::OK;
  }
};

int Serve(const std::string& cert, const std::string& key,
          const std::string& dir, const std::string& ready) {
  grpc::SslServerCredentialsOptions options;
  options.pem_key_cert_pairs.push_back({Slurp(key), Slurp(cert)});
  RawUpload upload(dir);
  RawDownload download;
  grpc::ServerBuilder builder;
  int port = 0;
  int plain_port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::SslServerCredentials(options),
                           &port);
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                           &plain_port);
  builder.RegisterService(&upload);
  builder.RegisterService(&download);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  CAIRN_CHECK(server != nullptr);
  std::ofstream(ready) << "127.0.0.1:" << port << " 127.0.0.1:" << plain_port
                       << "\n"
                       << std::flush;
  server->Wait();
  return 0;
}

std::shared_ptr<grpc::Channel> Connect(const std::string& ca,
                                       const std::string& address) {
  if (ca == "-") {
    return grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  }
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = Slurp(ca);
  return grpc::CreateChannel(address, grpc::SslCredentials(options));
}

int Push(const std::string& ca, const std::string& address,
         const std::string& file) {
  auto stub = v1::UploadService::NewStub(Connect(ca, address));
  grpc::ClientContext context;
  v1::Upload response;
  auto writer = stub->WriteUpload(&context, &response);
  ForEachMessage(file, [&](std::string chunk) {
    v1::WriteUploadRequest request;
    request.set_chunk(std::move(chunk));
    return writer->Write(request);
  });
  writer->WritesDone();
  return writer->Finish().ok() ? 0 : 1;
}

int Pull(const std::string& ca, const std::string& address,
         const std::string& file, const std::string& out) {
  auto stub = v1::DownloadService::NewStub(Connect(ca, address));
  grpc::ClientContext context;
  v1::ReadRequest request;
  request.mutable_release_file()->set_path(file);
  auto reader = stub->Read(&context, request);
  int fd = Create(out);
  v1::ReadResponse response;
  while (reader->Read(&response)) WriteAll(fd, response.chunk());
  Finish(fd);
  return reader->Finish().ok() ? 0 : 1;
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode == "serve" && argc == 6) {
    return cairn::Serve(argv[2], argv[3], argv[4], argv[5]);
  }
  if (mode == "push" && argc == 5) {
    return cairn::Push(argv[2], argv[3], argv[4]);
  }
  if (mode == "pull" && argc == 6) {
    return cairn::Pull(argv[2], argv[3], argv[4], argv[5]);
  }
  std::fprintf(stderr, "usage: raw_stream serve|push|pull ...\n");
  return 2;
}
