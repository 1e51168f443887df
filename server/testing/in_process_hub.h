#ifndef CAIRN_SERVER_TESTING_IN_PROCESS_HUB_H_
#define CAIRN_SERVER_TESTING_IN_PROCESS_HUB_H_

#include <map>
#include <memory>
#include <string>

#include "cairn/v1/identity.pb.h"
#include "core/base/clock.h"
#include "core/base/ed25519.h"
#include "core/rpc/hub_channel.h"
#include "server/config/hub_config.h"
#include "server/hub_server.h"

namespace cairn::testing {

// A whole hub within the test's process: a data directory of its own, real
// stores, TLS on free ports. The first administrator is "admin". Methods
// abort the test program when the set-up itself fails. Not thread-safe.
class InProcessHub {
 public:
  // `clock` must outlive it.
  explicit InProcessHub(HubConfig config = {}, Clock& clock = Clock::System());
  // Stops the hub and removes the directory.
  ~InProcessHub();

  void Start();
  void Stop();

  // Makes a user with a role, a token and a registered key.
  void AddPerson(const std::string& name, v1::User::Role role);
  // A connection as that person; "" is a stranger. `address`: of a proxy that
  // stands before the hub, on loopback.
  std::unique_ptr<HubChannel> Connect(const std::string& person,
                                      const std::string& address = "");
  std::unique_ptr<HubChannel> ConnectWithToken(const std::string& token,
                                               const std::string& address = "");
  const SigningKey& KeyOf(const std::string& person) const;

  HubServer& server() { return *server_; }
  const std::string& data_dir() const { return data_dir_; }

 private:
  struct Person {
    std::string token;
    SigningKey key;
  };

  HubConfig config_;
  Clock& clock_;
  std::string root_;
  std::string data_dir_;
  std::string hub_id_;
  std::map<std::string, Person> people_;
  std::unique_ptr<HubServer> server_;
};

}  // namespace cairn::testing

#endif  // CAIRN_SERVER_TESTING_IN_PROCESS_HUB_H_
