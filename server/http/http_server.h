#ifndef CAIRN_SERVER_HTTP_HTTP_SERVER_H_
#define CAIRN_SERVER_HTTP_HTTP_SERVER_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace cairn {

// An answer to a GET.
struct HttpResponse {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};

// Answers GET (and HEAD) of a path; runs on the server's thread and must not
// block for long.
using HttpHandler = std::function<HttpResponse(absl::string_view path)>;

// Plain HTTP/1.1 on Boost.Beast: asynchronous, so that idle and slow peers
// cost no thread. Listens on loopback only; whoever serves others puts a proxy
// before it. Everything is bounded: a header has at most 8 KiB, a request no
// body, a connection is closed after `idle_timeout` without a byte, and one
// past `connections_max` at once.
class HttpServer {
 public:
  struct Options {
    // HOST:PORT; port 0 picks one.
    std::string listen = "127.0.0.1:7480";
    // Accept an address that is not a loopback one, because a proxy with TLS
    // stands before it.
    bool is_behind_proxy = false;
    size_t connections_max = 256;
    absl::Duration idle_timeout = absl::Seconds(30);
  };

  // Binds and listens. INVALID_ARGUMENT for an address that cannot be parsed
  // or is not loopback; UNAVAILABLE when it cannot be bound.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Create(
      const Options& options, HttpHandler handler);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // The address that is listened on, with the real port.
  const std::string& address() const { return address_; }

  // Serves on the calling thread until Stop().
  void Run();
  // From any thread; ends Run() and every connection.
  void Stop();

 private:
  class Listener;
  HttpServer(std::unique_ptr<Listener> listener, std::string address);

  std::unique_ptr<Listener> listener_;
  const std::string address_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_HTTP_HTTP_SERVER_H_
