#ifndef CAIRN_TESTS_SUPPORT_CUTTING_PROXY_H_
#define CAIRN_TESTS_SUPPORT_CUTTING_PROXY_H_

#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <random>
#include <string>
#include <thread>

#include "core/base/mutex.h"

namespace cairn::testing {

// A TCP proxy on loopback that treats its connections badly: it resets each
// after a random number of bytes, or passes them slowly. One thread. Aborts
// the test program when it cannot listen.
class CuttingProxy {
 public:
  // What happens to the connections. May change at any time.
  struct Plan {
    // Connections that are still to be cut; each after as many bytes of both
    // directions as a draw from [1, bytes_max] says.
    int cuts = 0;
    int64_t bytes_max = 0;
    // Bytes a second of each direction of all connections; 0: no limit.
    int64_t rate = 0;
  };

  // Passes connections on to 127.0.0.1:`port`.
  CuttingProxy(int port, uint64_t seed);
  ~CuttingProxy();
  CuttingProxy(const CuttingProxy&) = delete;
  CuttingProxy& operator=(const CuttingProxy&) = delete;

  void Set(const Plan& plan);
  // Cuts that were made.
  int cuts() const { return cuts_; }
  // "127.0.0.1:PORT".
  const std::string& address() const { return address_; }

 private:
  struct Connection;

  void Run(const std::stop_token& stop);
  void Accept();
  // False once the connection is over.
  bool Pass(Connection& connection);
  bool Move(Connection& connection, bool is_up);
  int64_t DrawBudget();
  // Bytes that may pass now.
  int64_t Allowance(bool is_up);

  const int target_port_;
  int listener_;
  std::string address_;
  std::atomic<int> cuts_ = 0;

  Mutex mutex_;
  Plan plan_ ABSL_GUARDED_BY(mutex_);

  // Of the thread alone.
  std::mt19937_64 random_;
  std::list<std::unique_ptr<Connection>> connections_;
  int64_t spent_[2] = {0, 0};
  int64_t slice_ = -1;

  std::jthread thread_;
};

}  // namespace cairn::testing

#endif  // CAIRN_TESTS_SUPPORT_CUTTING_PROXY_H_
