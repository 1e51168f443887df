#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "cairn/v1/hub.grpc.pb.h"
#include "cairn/v1/identity.grpc.pb.h"
#include "client/cli/command.h"
#include "client/cli/output.h"
#include "client/names.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/release/release_document.h"
#include "core/rpc/hub_address.h"

namespace cairn::cli {
namespace {

using v1::IdentityService;

constexpr char kRegisterDomain[] = "cairn.register.v1";

struct InitOptions {
  std::string ca;
  std::string identity;
};

absl::StatusOr<v1::Hub> AskHub(HubChannel& hub) {
  CAIRN_ASSIGN_OR_RETURN(v1::Hub told, hub.Call(&v1::HubService::Stub::GetHub,
                                                v1::GetHubRequest()));
  if (RootFingerprint(told.root_key()) != told.root_fingerprint()) {
    return absl::DataLossError(absl::StrCat(
        "the hub says its root key ", told.root_key(), " has the fingerprint ",
        told.root_fingerprint(), ", which it has not"));
  }
  return told;
}

std::string DescribeUser(const v1::User& user) {
  return absl::StrCat(
      "name    ", user.name(), "\nrole    ",
      absl::AsciiStrToLower(v1::User::Role_Name(user.role())),
      user.model().empty() ? "" : absl::StrCat(" of ", user.model()),
      "\nkey     ",
      user.public_key().empty() ? "(none: `cairn identity register`)"
                                : user.public_key());
}

// Copies the CA into the home; without one a hub is spoken to only where that
// needs no TLS.
absl::Status TakeCa(const Session& session, const std::string& hub,
                    const std::string& ca) {
  CAIRN_ASSIGN_OR_RETURN(HubAddress address, ParseHubAddress(hub));
  if (ca.empty()) {
    return address.security == HubAddress::Security::kPlain
               ? absl::OkStatus()
               : session.home().ReadCa().status();
  }
  CAIRN_ASSIGN_OR_RETURN(std::string pem, ReadFile(ca, 1 << 20));
  return session.home().WriteCa(pem);
}

absl::Status Init(Session& session, const InitOptions& options) {
  const Home& home = session.home();
  CAIRN_RETURN_IF_ERROR(home.Prepare());
  CAIRN_ASSIGN_OR_RETURN(HomeSettings settings, home.ReadSettings());
  CAIRN_ASSIGN_OR_RETURN(settings.hub, ChooseHub(session.flags(), settings));
  if (!options.identity.empty()) settings.identity = options.identity;
  CAIRN_RETURN_IF_ERROR(TakeCa(session, settings.hub, options.ca));
  CAIRN_ASSIGN_OR_RETURN(SigningKey key, home.ReadOrMakeKey());
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(v1::Hub told, AskHub(*hub));
  if (!settings.root_fingerprint.empty() &&
      settings.root_fingerprint != told.root_fingerprint()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the hub at ", settings.hub,
                     " shows the root fingerprint ", told.root_fingerprint(),
                     ", but this home trusts ", settings.root_fingerprint,
                     "; if the hub was really replaced, use another --home"));
  }
  settings.root_fingerprint = told.root_fingerprint();
  CAIRN_RETURN_IF_ERROR(home.WriteSettings(settings));
  PrintResource(session, told, [&] {
    return absl::StrCat("home         ", home.path(), "\nhub          ",
                        settings.hub, " (", told.hub_id(), ")\ntrusted root ",
                        told.root_fingerprint(), "\nyour key     ",
                        key.public_hex(),
                        "\n\nCompare the root's fingerprint with the one the "
                        "hub's administrator gives you.");
  });
  return absl::OkStatus();
}

absl::Status ShowIdentity(Session& session) {
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(
      v1::User user,
      hub->Call(&IdentityService::Stub::GetProfile, v1::GetProfileRequest()));
  PrintResource(session, user, [&] { return DescribeUser(user); });
  return absl::OkStatus();
}

// Signs with the home's key; a `previous_key` file replaces a registered key.
absl::Status RegisterKey(Session& session, const std::string& previous_key) {
  CAIRN_ASSIGN_OR_RETURN(SigningKey key, session.home().ReadOrMakeKey());
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(v1::Hub told, AskHub(*hub));
  CAIRN_ASSIGN_OR_RETURN(
      v1::User user,
      hub->Call(&IdentityService::Stub::GetProfile, v1::GetProfileRequest()));
  std::string proof = told.hub_id();
  proof.push_back('\0');
  proof += user.name();
  v1::RegisterKeyRequest request;
  request.set_public_key(key.public_hex());
  request.set_proof(key.Sign(kRegisterDomain, proof));
  if (!previous_key.empty()) {
    CAIRN_ASSIGN_OR_RETURN(std::string seed, ReadFile(previous_key, 1 << 10));
    CAIRN_ASSIGN_OR_RETURN(
        SigningKey previous,
        SigningKey::FromSeedHex(absl::StripAsciiWhitespace(seed)));
    request.set_previous_proof(previous.Sign(kRegisterDomain, proof));
  }
  CAIRN_ASSIGN_OR_RETURN(
      user, hub->Call(&IdentityService::Stub::RegisterKey, request));
  PrintResource(session, user, [&] { return DescribeUser(user); });
  return absl::OkStatus();
}

}  // namespace

void AddHomeCommands(CommandLine& root) {
  root.Add<InitOptions>(
      "init",
      "Set up a home: key pair, the hub's address and CA, its trusted root",
      "cairn init --hub hub.example.org:7443 --ca ca.pem --identity alice",
      [](Parameters& p, InitOptions& o) {
        p.Option("--ca", o.ca, "Certificate of the hub's CA (PEM)");
        p.Option("--identity", o.identity, "Your user name at the hub");
      },
      Init);
  CommandLine identity = root.Group("identity", "Who you are at the hub");
  struct None {};
  identity.Add<None>(
      "show", "Show your name, role and registered key", "cairn identity show",
      [](Parameters&, None&) {},
      [](Session& session, const None&) { return ShowIdentity(session); });
  struct Register {
    std::string previous_key;
  };
  identity.Add<Register>(
      "register", "Register the home's public key with the hub",
      "cairn identity register",
      [](Parameters& p, Register& o) {
        p.Option("--previous-key", o.previous_key,
                 "Key file of the key that is replaced");
      },
      [](Session& session, const Register& o) {
        return RegisterKey(session, o.previous_key);
      });
}

}  // namespace cairn::cli
