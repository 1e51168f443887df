#include "server/http/http_server.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/bind_handler.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <boost/optional.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/log.h"

namespace cairn {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using Tcp = asio::ip::tcp;

// Long enough for any header a browser or scraper sends.
constexpr uint32_t kHeaderBytesMax = 8 << 10;

absl::StatusOr<Tcp::endpoint> ParseEndpoint(const std::string& listen,
                                            bool is_behind_proxy) {
  const size_t colon = listen.rfind(':');
  int port = -1;
  if (colon == std::string::npos ||
      !absl::SimpleAtoi(listen.substr(colon + 1), &port) || port < 0 ||
      port > 65535) {
    return absl::InvalidArgumentError(absl::StrCat(
        "HTTP address \"", listen, "\" is not HOST:PORT, e.g. 127.0.0.1:7480"));
  }
  std::string host = listen.substr(0, colon);
  if (host == "localhost") host = "127.0.0.1";
  if (host.size() > 2 && host.front() == '[') {
    host = host.substr(1, host.size() - 2);
  }
  error_code error;
  const auto address = asio::ip::make_address(host, error);
  if (error) {
    return absl::InvalidArgumentError(absl::StrCat(
        "HTTP address \"", listen, "\": \"", host, "\" is no IP address"));
  }
  if (!address.is_loopback() && !is_behind_proxy) {
    return absl::InvalidArgumentError(absl::StrCat(
        "HTTP address \"", listen,
        "\" is not a loopback address: plain HTTP stays on this machine; "
        "listen on 127.0.0.1, or put a proxy with TLS before it and say so"));
  }
  return Tcp::endpoint(address, static_cast<uint16_t>(port));
}

// One connection: reads a request, answers, and again while it is kept alive.
// Owned by its own pending operations, hence shared.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Tcp::socket socket, const HttpHandler& handler,
             std::chrono::milliseconds idle_timeout, size_t& open)
      : stream_(std::move(socket)),
        handler_(handler),
        idle_timeout_(idle_timeout),
        open_(open) {
    ++open_;
  }
  ~Connection() { --open_; }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void Read() {
    parser_.emplace();
    parser_->header_limit(kHeaderBytesMax);
    parser_->body_limit(0);
    stream_.expires_after(idle_timeout_);
    http::async_read(
        stream_, buffer_, *parser_,
        beast::bind_front_handler(&Connection::OnRead, shared_from_this()));
  }

 private:
  void OnRead(error_code error, size_t /*bytes*/) {
    if (error) return Close();
    const http::request<http::empty_body>& request = parser_->get();
    const bool is_get = request.method() == http::verb::get;
    if (!is_get && request.method() != http::verb::head) {
      return Write({.status = 405, .body = "only GET and HEAD\n"}, true);
    }
    std::string target(request.target());
    Write(handler_(target.substr(0, target.find('?'))), is_get);
  }

  void Write(const HttpResponse& answer, bool with_body) {
    const http::request<http::empty_body>& request = parser_->get();
    response_ = {};
    response_.version(request.version());
    response_.result(static_cast<unsigned>(answer.status));
    response_.set(http::field::server, "cairnd");
    response_.set(http::field::content_type, answer.content_type);
    response_.set(http::field::cache_control, "no-store");
    if (answer.status == 405) response_.set(http::field::allow, "GET, HEAD");
    response_.keep_alive(request.keep_alive());
    if (with_body) response_.body() = answer.body;
    response_.content_length(answer.body.size());
    stream_.expires_after(idle_timeout_);
    http::async_write(
        stream_, response_,
        beast::bind_front_handler(&Connection::OnWrite, shared_from_this()));
  }

  void OnWrite(error_code error, size_t /*bytes*/) {
    if (error || !response_.keep_alive()) return Close();
    Read();
  }

  void Close() {
    error_code ignored;
    stream_.socket().shutdown(Tcp::socket::shutdown_both, ignored);
  }

  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  const HttpHandler& handler_;
  const std::chrono::milliseconds idle_timeout_;
  size_t& open_;
  boost::optional<http::request_parser<http::empty_body>> parser_;
  http::response<http::string_body> response_;
};

}  // namespace

// Accepts connections. Everything runs on the thread that calls Run().
class HttpServer::Listener {
 public:
  Listener(const Options& options, HttpHandler handler)
      : handler_(std::move(handler)),
        connections_max_(options.connections_max),
        idle_timeout_(absl::ToInt64Milliseconds(options.idle_timeout)),
        acceptor_(context_) {}

  absl::StatusOr<std::string> Listen(const Tcp::endpoint& endpoint) {
    error_code error;
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(Tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error)
      acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (error) {
      return absl::UnavailableError(absl::StrCat(
          "cannot listen for HTTP on ", endpoint.address().to_string(), ":",
          endpoint.port(), ": ", error.message()));
    }
    const Tcp::endpoint bound = acceptor_.local_endpoint();
    const std::string host = bound.address().to_string();
    return bound.address().is_v6() ? absl::StrCat("[", host, "]:", bound.port())
                                   : absl::StrCat(host, ":", bound.port());
  }

  void Run() {
    Accept();
    context_.run();
  }

  void Stop() { context_.stop(); }

 private:
  void Accept() {
    acceptor_.async_accept([this](error_code error, Tcp::socket socket) {
      if (error == asio::error::operation_aborted) return;
      if (error) {
        CAIRN_LOG(kWarning, "HTTP accept: ", error.message());
      } else if (open_ < connections_max_) {
        std::make_shared<Connection>(std::move(socket), handler_, idle_timeout_,
                                     open_)
            ->Read();
      }
      Accept();
    });
  }

  const HttpHandler handler_;
  const size_t connections_max_;
  const std::chrono::milliseconds idle_timeout_;
  // Above the context: connections that it still owns count themselves down.
  size_t open_ = 0;
  asio::io_context context_{1};
  Tcp::acceptor acceptor_;
};

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Create(
    const Options& options, HttpHandler handler) {
  auto endpoint = ParseEndpoint(options.listen, options.is_behind_proxy);
  if (!endpoint.ok()) return endpoint.status();
  auto listener = std::make_unique<Listener>(options, std::move(handler));
  auto address = listener->Listen(*endpoint);
  if (!address.ok()) return address.status();
  return std::unique_ptr<HttpServer>(
      new HttpServer(std::move(listener), *std::move(address)));
}

HttpServer::HttpServer(std::unique_ptr<Listener> listener, std::string address)
    : listener_(std::move(listener)), address_(std::move(address)) {}

HttpServer::~HttpServer() = default;

void HttpServer::Run() { listener_->Run(); }

void HttpServer::Stop() { listener_->Stop(); }

}  // namespace cairn
