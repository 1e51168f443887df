#include "tests/support/cutting_proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/base/log.h"

namespace cairn::testing {
namespace {

constexpr int kPollMs = 2;
constexpr size_t kBufferBytes = 64 << 10;
// The rate holds in every slice of time.
constexpr int64_t kSlicesPerSecond = 50;

sockaddr_in Loopback(int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

void Prepare(int fd) {
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

// So that the peer hears of it at once, with what is under way lost.
void Reset(int fd) {
  linger hard = {.l_onoff = 1, .l_linger = 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
  close(fd);
}

bool IsReadable(int fd) {
  pollfd ask = {.fd = fd, .events = POLLIN, .revents = 0};
  return poll(&ask, 1, 0) > 0;
}

// All of it, or false.
bool SendAll(int fd, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    data += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

}  // namespace

struct CuttingProxy::Connection {
  int client = -1;
  int hub = -1;
  int64_t budget = -1;  // bytes until it is cut; -1: it is not

  ~Connection() {
    Reset(client);
    Reset(hub);
  }
};

CuttingProxy::CuttingProxy(int port, uint64_t seed)
    : target_port_(port),
      listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)),
      random_(seed) {
  sockaddr_in address = Loopback(0);
  socklen_t size = sizeof(address);
  auto* plain = reinterpret_cast<sockaddr*>(&address);
  CAIRN_CHECK(bind(listener_, plain, size) == 0);
  CAIRN_CHECK(listen(listener_, 64) == 0);
  CAIRN_CHECK(getsockname(listener_, plain, &size) == 0);
  address_ = absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
  thread_ = std::jthread([this](const std::stop_token& stop) { Run(stop); });
}

CuttingProxy::~CuttingProxy() {
  thread_.request_stop();
  thread_.join();
  close(listener_);
}

void CuttingProxy::Set(const Plan& plan) {
  MutexLock lock(mutex_);
  plan_ = plan;
}

void CuttingProxy::Run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    std::vector<pollfd> fds = {
        {.fd = listener_, .events = POLLIN, .revents = 0}};
    for (const auto& connection : connections_) {
      fds.push_back({.fd = connection->client, .events = POLLIN, .revents = 0});
      fds.push_back({.fd = connection->hub, .events = POLLIN, .revents = 0});
    }
    poll(fds.data(), fds.size(), kPollMs);
    if (fds[0].revents != 0) Accept();
    std::erase_if(connections_, [this](const auto& connection) {
      return !Pass(*connection);
    });
    if (Allowance(true) == 0 || Allowance(false) == 0) {
      absl::SleepFor(absl::Milliseconds(kPollMs));
    }
  }
}

void CuttingProxy::Accept() {
  auto connection = std::make_unique<Connection>();
  connection->client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
  connection->hub = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = Loopback(target_port_);
  if (connection->client < 0 ||
      connect(connection->hub, reinterpret_cast<sockaddr*>(&address),
              sizeof(address)) != 0) {
    return;  // as if nobody listened
  }
  Prepare(connection->client);
  Prepare(connection->hub);
  connection->budget = DrawBudget();
  connections_.push_back(std::move(connection));
}

int64_t CuttingProxy::DrawBudget() {
  MutexLock lock(mutex_);
  if (plan_.cuts <= 0) return -1;
  --plan_.cuts;
  return 1 + static_cast<int64_t>(random_() %
                                  static_cast<uint64_t>(plan_.bytes_max));
}

int64_t CuttingProxy::Allowance(bool is_up) {
  MutexLock lock(mutex_);
  if (plan_.rate <= 0) return kBufferBytes;
  const int64_t now = absl::ToUnixMillis(absl::Now()) * kSlicesPerSecond / 1000;
  if (now != slice_) {
    slice_ = now;
    spent_[0] = spent_[1] = 0;
  }
  return std::max<int64_t>(0, plan_.rate / kSlicesPerSecond - spent_[is_up]);
}

bool CuttingProxy::Pass(Connection& connection) {
  return Move(connection, /*is_up=*/true) && Move(connection, /*is_up=*/false);
}

bool CuttingProxy::Move(Connection& connection, bool is_up) {
  const int from = is_up ? connection.client : connection.hub;
  const int to = is_up ? connection.hub : connection.client;
  int64_t most = std::min<int64_t>(Allowance(is_up), kBufferBytes);
  if (connection.budget >= 0) most = std::min(most, connection.budget);
  if (most == 0 || !IsReadable(from)) return true;
  char buffer[kBufferBytes];
  const ssize_t n = recv(from, buffer, static_cast<size_t>(most), 0);
  if (n <= 0) return false;
  spent_[is_up] += n;
  if (!SendAll(to, buffer, static_cast<size_t>(n))) return false;
  if (connection.budget < 0) return true;
  connection.budget -= n;
  if (connection.budget > 0) return true;
  ++cuts_;
  return false;
}

}  // namespace cairn::testing
