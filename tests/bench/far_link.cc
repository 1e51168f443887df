// A long line between two network namespaces, for machines whose kernel cannot
// make one: a TUN device in each, and every packet between them delayed, held
// to a rate and now and then lost. What runs in the namespaces uses the
// kernel's own TCP.
//
//   far_link NETNS_A NETNS_B ONE_WAY_MS MBIT LOSS_PERCENT SEED
//
// Makes `far0` in both (10.77.0.1/30 and 10.77.0.2/30 are for the caller to
// assign), prints "ready" and runs until killed. Needs CAP_NET_ADMIN.

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/log.h"

namespace cairn {
namespace {

constexpr size_t kPacketBytesMax = 65536;
// What the device before the line holds before it drops.
constexpr int64_t kQueueNs = 100'000'000;

int64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{1'000'000'000} * now.tv_sec + now.tv_nsec;
}

// A TUN device `far0` inside a namespace.
int OpenTun(const std::string& netns) {
  const int space = open(absl::StrCat("/run/netns/", netns).c_str(), O_RDONLY);
  CAIRN_CHECK(space >= 0 && setns(space, CLONE_NEWNET) == 0);
  close(space);
  const int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
  ifreq request = {};
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  std::strncpy(request.ifr_name, "far0", IFNAMSIZ - 1);
  CAIRN_CHECK(fd >= 0 && ioctl(fd, TUNSETIFF, &request) == 0);
  return fd;
}

// One direction.
class Line {
 public:
  Line(int from, int to, int64_t delay_ns, int64_t bits_per_second, double loss,
       uint64_t seed)
      : from_(from),
        to_(to),
        delay_ns_(delay_ns),
        bits_per_second_(bits_per_second),
        loss_(loss),
        random_(seed) {}

  // Takes what was sent.
  void Take() {
    static char packet[kPacketBytesMax];
    while (true) {
      const ssize_t n = read(from_, packet, sizeof(packet));
      if (n <= 0) return;
      const int64_t now = NowNs();
      const int64_t start = std::max(now, free_ns_);
      if (start - now > kQueueNs) continue;
      free_ns_ = start + int64_t{8'000'000'000} * n / bits_per_second_;
      if (std::uniform_real_distribution<>(0, 1)(random_) < loss_) continue;
      on_way_.push_back(
          {free_ns_ + delay_ns_, std::string(packet, static_cast<size_t>(n))});
    }
  }

  // Hands over what has arrived.
  void Deliver() {
    const int64_t now = NowNs();
    while (!on_way_.empty() && on_way_.front().due_ns <= now) {
      const std::string& bytes = on_way_.front().bytes;
      if (write(to_, bytes.data(), bytes.size()) < 0 && errno == EAGAIN) return;
      on_way_.pop_front();
    }
  }

  int64_t due_ns() const {
    return on_way_.empty() ? INT64_MAX : on_way_.front().due_ns;
  }

 private:
  struct Packet {
    int64_t due_ns;
    std::string bytes;
  };

  const int from_;
  const int to_;
  const int64_t delay_ns_;
  const int64_t bits_per_second_;
  const double loss_;
  std::mt19937_64 random_;
  std::deque<Packet> on_way_;
  int64_t free_ns_ = 0;
};

void Run(int argc, char** argv) {
  CAIRN_CHECK(argc == 7);
  // Packets are due within microseconds.
  prctl(PR_SET_TIMERSLACK, 1000);
  const int a = OpenTun(argv[1]);
  const int b = OpenTun(argv[2]);
  const auto delay_ns = static_cast<int64_t>(std::stod(argv[3]) * 1e6);
  const auto rate = static_cast<int64_t>(std::stod(argv[4]) * 1e6);
  const double loss = std::stod(argv[5]) / 100;
  const uint64_t seed = std::stoull(argv[6]);
  Line there(a, b, delay_ns, rate, loss, seed);
  Line back(b, a, delay_ns, rate, loss, seed + 1);
  std::printf("ready\n");
  std::fflush(stdout);
  while (true) {
    const int64_t wait = std::clamp<int64_t>(
        std::min(there.due_ns(), back.due_ns()) - NowNs(), 0, 100'000'000);
    const timespec timeout = {.tv_sec = 0, .tv_nsec = wait};
    pollfd fds[2] = {{.fd = a, .events = POLLIN, .revents = 0},
                     {.fd = b, .events = POLLIN, .revents = 0}};
    ppoll(fds, 2, &timeout, nullptr);
    there.Take();
    back.Take();
    there.Deliver();
    back.Deliver();
  }
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) { cairn::Run(argc, argv); }
