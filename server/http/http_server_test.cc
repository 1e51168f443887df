#include "server/http/http_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// A server that answers "hello" on /hello.
class HttpServerTest : public ::testing::Test {
 protected:
  void Start(HttpServer::Options options) {
    options.listen = "127.0.0.1:0";
    auto server = HttpServer::Create(options, [](absl::string_view path) {
      if (path == "/hello") return HttpResponse{.body = "hello\n"};
      return HttpResponse{.status = 404, .body = "nothing here\n"};
    });
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    thread_ = std::jthread([this] { server_->Run(); });
  }

  ~HttpServerTest() override {
    if (server_ != nullptr) server_->Stop();
  }

  int Connect() const {
    int port = 0;
    EXPECT_TRUE(absl::SimpleAtoi(
        server_->address().substr(server_->address().rfind(':') + 1), &port));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    EXPECT_EQ(
        ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)),
        0);
    return fd;
  }

  // Sends text and reads until the server closes.
  std::string Ask(const std::string& text) const {
    int fd = Connect();
    EXPECT_EQ(::send(fd, text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
    std::string answer = ReadToEnd(fd);
    ::close(fd);
    return answer;
  }

  static std::string ReadToEnd(int fd) {
    std::string answer;
    char buffer[4096];
    for (ssize_t n; (n = ::recv(fd, buffer, sizeof(buffer), 0)) > 0;) {
      answer.append(buffer, static_cast<size_t>(n));
    }
    return answer;
  }

 private:
  std::unique_ptr<HttpServer> server_;
  std::jthread thread_;
};

TEST_F(HttpServerTest, AnswersGetAndDropsTheQuery) {
  Start({});
  std::string answer =
      Ask("GET /hello?x=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(answer, HasSubstr("\r\n\r\nhello\n"));
}

TEST_F(HttpServerTest, HeadHasLengthAndNoBody) {
  Start({});
  std::string answer =
      Ask("HEAD /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(answer, HasSubstr("Content-Length: 6"));
  EXPECT_THAT(answer, Not(HasSubstr("hello\n")));
}

TEST_F(HttpServerTest, RefusesOtherMethodsAndPaths) {
  Start({});
  EXPECT_THAT(
      Ask("DELETE /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
      StartsWith("HTTP/1.1 405"));
  EXPECT_THAT(Ask("GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
              StartsWith("HTTP/1.1 404"));
}

TEST_F(HttpServerTest, ClosesOnGarbageAndHugeHeaders) {
  Start({});
  EXPECT_EQ(Ask("\x16\x03\x01 not http\r\n\r\n"), "");
  EXPECT_EQ(Ask(absl::StrCat("GET / HTTP/1.1\r\nX: ", std::string(9000, 'x'),
                             "\r\n\r\n")),
            "");
}

TEST_F(HttpServerTest, ClosesIdleConnections) {
  Start({.idle_timeout = absl::Milliseconds(20)});
  int fd = Connect();
  EXPECT_EQ(ReadToEnd(fd), "");
  ::close(fd);
}

TEST_F(HttpServerTest, ClosesConnectionsPastTheLimit) {
  Start({.connections_max = 1});
  int first = Connect();
  int second = Connect();
  EXPECT_EQ(ReadToEnd(second), "");
  ::close(second);
  ::close(first);
}

TEST(HttpServerAddressTest, RefusesWhatIsNotLoopback) {
  auto handler = [](absl::string_view) { return HttpResponse{}; };
  for (const char* listen : {"0.0.0.0:0", "nonsense", "127.0.0.1:99999",
                             "example.org:80", "192.0.2.1:80"}) {
    EXPECT_EQ(HttpServer::Create({.listen = listen}, handler).status().code(),
              absl::StatusCode::kInvalidArgument)
        << listen;
  }
  EXPECT_TRUE(HttpServer::Create(
                  {.listen = "0.0.0.0:0", .is_behind_proxy = true}, handler)
                  .ok());
}

}  // namespace
}  // namespace cairn
