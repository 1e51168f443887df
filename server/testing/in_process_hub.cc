#include "server/testing/in_process_hub.h"

#include <filesystem>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "cairn/v1/identity.grpc.pb.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "server/auth/identity_service.h"
#include "server/flow/schema.h"
#include "server/setup/hub_setup.h"
#include "storage/rocksdb/rocksdb_metadata_store.h"

namespace cairn::testing {
namespace {

namespace fs = std::filesystem;

template <typename T>
T Must(absl::StatusOr<T> result) {
  if (!result.ok()) {
    Log(LogLevel::kError, result.status().ToString());
    CAIRN_CHECK(result.ok());
  }
  return *std::move(result);
}

std::string Word(const std::string& path) {
  return std::string(absl::StripAsciiWhitespace(Must(ReadFile(path))));
}

}  // namespace

InProcessHub::InProcessHub(HubConfig config, Clock& clock)
    : config_(std::move(config)),
      clock_(clock),
      root_(fs::temp_directory_path() /
            absl::StrCat("cairn-hub-", ToHex(RandomBytes(8)))),
      data_dir_(root_ + "/hub") {
  config_.listen = config_.http_listen = "127.0.0.1:0";
  fs::create_directories(root_);
  HubSetupResult made =
      Must(InitHub({.data_dir = data_dir_,
                    .open_store = [](const std::string& directory)
                        -> absl::StatusOr<std::unique_ptr<MetadataStore>> {
                      return RocksMetadataStore::Open(directory, HubSchema());
                    }},
                   clock_));
  hub_id_ = made.hub_id;
  people_.emplace("admin", Person{.token = Word(made.admin_home + "/token"),
                                  .key = Must(SigningKey::FromSeedHex(
                                      Word(made.admin_home + "/key")))});
  Start();
}

InProcessHub::~InProcessHub() {
  server_.reset();
  std::error_code ignored;
  fs::remove_all(root_, ignored);
}

void InProcessHub::Start() {
  server_ = Must(HubServer::Start(
      {.data_dir = data_dir_, .config = config_, .clock = &clock_}));
}

void InProcessHub::Stop() { server_.reset(); }

void InProcessHub::AddPerson(const std::string& name, v1::User::Role role) {
  auto admin = Connect("admin");
  v1::CreateUserRequest user;
  user.set_user_id(name);
  user.mutable_user()->set_role(role);
  Must(admin->Call(&v1::AdminService::Stub::CreateUser, user));
  v1::CreateTokenRequest wanted;
  wanted.set_user("users/" + name);
  v1::Token token =
      Must(admin->Call(&v1::AdminService::Stub::CreateToken, wanted));
  Person person{.token = token.token(), .key = SigningKey::Generate()};
  v1::RegisterKeyRequest key;
  key.set_public_key(person.key.public_hex());
  key.set_proof(person.key.Sign(kRegisterDomain,
                                RegistrationText(hub_id_, "users/" + name)));
  people_.insert_or_assign(name, std::move(person));
  Must(Connect(name)->Call(&v1::IdentityService::Stub::RegisterKey, key));
}

std::unique_ptr<HubChannel> InProcessHub::Connect(const std::string& person,
                                                  const std::string& address) {
  return ConnectWithToken(person.empty() ? "" : people_.at(person).token,
                          address);
}

std::unique_ptr<HubChannel> InProcessHub::ConnectWithToken(
    const std::string& token, const std::string& address) {
  return Must(HubChannel::Create(
      {.address = address.empty() ? server_->grpc_address() : address,
       .ca_pem = Must(ReadFile(server_->ca_path())),
       .token = token,
       .stop = {}}));
}

const SigningKey& InProcessHub::KeyOf(const std::string& person) const {
  return people_.at(person).key;
}

}  // namespace cairn::testing
