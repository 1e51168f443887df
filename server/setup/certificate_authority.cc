#include "server/setup/certificate_authority.h"

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

template <auto kFree>
struct Free {
  template <typename T>
  void operator()(T* pointer) const {
    kFree(pointer);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Free<X509_free>>;
using Bio = std::unique_ptr<BIO, Free<BIO_free_all>>;
using Extension = std::unique_ptr<X509_EXTENSION, Free<X509_EXTENSION_free>>;

constexpr int kSerialBits = 127;
constexpr absl::Duration kClockSkew = absl::Minutes(5);

absl::Status OpenSslError(absl::string_view doing) {
  char text[256] = "no detail";
  if (unsigned long code = ERR_get_error(); code != 0) {
    ERR_error_string_n(code, text, sizeof(text));
  }
  ERR_clear_error();
  return absl::InternalError(absl::StrCat(doing, ": ", text));
}

std::string Drain(BIO* bio) {
  char* bytes = nullptr;
  long size = BIO_get_mem_data(bio, &bytes);
  return std::string(bytes, static_cast<size_t>(size));
}

absl::StatusOr<CertificatePair> ToPem(X509* certificate, EVP_PKEY* key) {
  Bio certificate_bio(BIO_new(BIO_s_mem())), key_bio(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_X509(certificate_bio.get(), certificate) != 1 ||
      PEM_write_bio_PrivateKey(key_bio.get(), key, nullptr, nullptr, 0, nullptr,
                               nullptr) != 1) {
    return OpenSslError("write PEM");
  }
  return CertificatePair{Drain(certificate_bio.get()), Drain(key_bio.get())};
}

Bio MemoryBio(absl::string_view text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

absl::StatusOr<Certificate> ReadCertificate(absl::string_view pem) {
  Certificate certificate(
      PEM_read_bio_X509(MemoryBio(pem).get(), nullptr, nullptr, nullptr));
  ERR_clear_error();
  if (certificate == nullptr) {
    return absl::InvalidArgumentError("not a PEM certificate");
  }
  return certificate;
}

absl::StatusOr<Key> ReadKey(absl::string_view pem) {
  Key key(
      PEM_read_bio_PrivateKey(MemoryBio(pem).get(), nullptr, nullptr, nullptr));
  ERR_clear_error();
  if (key == nullptr) {
    return absl::InvalidArgumentError("not a PEM private key");
  }
  return key;
}

absl::Status AddExtension(X509* certificate, X509* issuer, int nid,
                          const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  Extension extension(
      X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  if (extension == nullptr ||
      X509_add_ext(certificate, extension.get(), -1) != 1) {
    return OpenSslError(absl::StrCat("certificate extension ", value));
  }
  return absl::OkStatus();
}

absl::Status SetSerial(X509* certificate) {
  std::unique_ptr<BIGNUM, Free<BN_free>> serial(BN_new());
  if (BN_rand(serial.get(), kSerialBits, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) !=
          1 ||
      BN_to_ASN1_INTEGER(serial.get(), X509_get_serialNumber(certificate)) ==
          nullptr) {
    return OpenSslError("certificate serial number");
  }
  return absl::OkStatus();
}

absl::Status SetName(X509_NAME* name, absl::string_view common_name) {
  if (X509_NAME_add_entry_by_txt(
          name, "CN", MBSTRING_UTF8,
          reinterpret_cast<const unsigned char*>(common_name.data()),
          static_cast<int>(common_name.size()), -1, 0) != 1) {
    return OpenSslError("certificate name");
  }
  return absl::OkStatus();
}

// A certificate with everything but extensions and signature.
absl::StatusOr<Certificate> StartCertificate(EVP_PKEY* key,
                                             absl::string_view common_name,
                                             absl::Time not_before,
                                             absl::Duration valid) {
  Certificate certificate(X509_new());
  X509_set_version(certificate.get(), X509_VERSION_3);
  CAIRN_RETURN_IF_ERROR(SetSerial(certificate.get()));
  // A peer whose clock is a little late accepts it as well.
  time_t begin = absl::ToTimeT(not_before - kClockSkew);
  time_t end = absl::ToTimeT(not_before + valid);
  if (ASN1_TIME_set(X509_getm_notBefore(certificate.get()), begin) == nullptr ||
      ASN1_TIME_set(X509_getm_notAfter(certificate.get()), end) == nullptr ||
      X509_set_pubkey(certificate.get(), key) != 1) {
    return OpenSslError("certificate fields");
  }
  CAIRN_RETURN_IF_ERROR(
      SetName(X509_get_subject_name(certificate.get()), common_name));
  return certificate;
}

absl::StatusOr<Key> NewKey() {
  Key key(EVP_EC_gen("P-256"));
  if (key == nullptr) return OpenSslError("make a P-256 key");
  return key;
}

bool IsHostName(absl::string_view name) {
  absl::ConsumePrefix(&name, "*.");
  if (name.empty() || name.size() > 253 || name.front() == '.' ||
      name.front() == '-') {
    return false;
  }
  for (char c : name) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '-' &&
        c != '.') {
      return false;
    }
  }
  return true;
}

bool IsIpAddress(const std::string& name) {
  in6_addr address;
  return inet_pton(AF_INET, name.c_str(), &address) == 1 ||
         inet_pton(AF_INET6, name.c_str(), &address) == 1;
}

absl::StatusOr<std::string> AlternativeNames(
    absl::Span<const std::string> names) {
  if (names.empty()) {
    return absl::InvalidArgumentError(
        "a server certificate needs at least one host name or address");
  }
  std::string out;
  for (const std::string& name : names) {
    bool is_ip = IsIpAddress(name);
    if (!is_ip && !IsHostName(name)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "'", name, "' is neither a host name nor an IP address"));
    }
    absl::StrAppend(&out, out.empty() ? "" : ",", is_ip ? "IP:" : "DNS:", name);
  }
  return out;
}

}  // namespace

absl::StatusOr<CertificatePair> MakeAuthority(absl::string_view common_name,
                                              absl::Time not_before,
                                              absl::Duration valid) {
  CAIRN_ASSIGN_OR_RETURN(Key key, NewKey());
  CAIRN_ASSIGN_OR_RETURN(
      Certificate certificate,
      StartCertificate(key.get(), common_name, not_before, valid));
  X509* self = certificate.get();
  X509_set_issuer_name(self, X509_get_subject_name(self));
  CAIRN_RETURN_IF_ERROR(AddExtension(self, self, NID_basic_constraints,
                                     "critical,CA:TRUE,pathlen:0"));
  CAIRN_RETURN_IF_ERROR(
      AddExtension(self, self, NID_key_usage, "critical,keyCertSign,cRLSign"));
  CAIRN_RETURN_IF_ERROR(
      AddExtension(self, self, NID_subject_key_identifier, "hash"));
  CAIRN_RETURN_IF_ERROR(
      AddExtension(self, self, NID_authority_key_identifier, "keyid:always"));
  if (X509_sign(self, key.get(), EVP_sha256()) == 0) {
    return OpenSslError("sign the authority's certificate");
  }
  return ToPem(self, key.get());
}

absl::StatusOr<CertificatePair> MakeServerCertificate(
    const CertificatePair& authority, absl::Span<const std::string> names,
    absl::Time not_before, absl::Duration valid) {
  CAIRN_ASSIGN_OR_RETURN(std::string alternatives, AlternativeNames(names));
  CAIRN_ASSIGN_OR_RETURN(Certificate issuer,
                         ReadCertificate(authority.certificate));
  CAIRN_ASSIGN_OR_RETURN(Key issuer_key, ReadKey(authority.key));
  CAIRN_ASSIGN_OR_RETURN(Key key, NewKey());
  CAIRN_ASSIGN_OR_RETURN(
      Certificate certificate,
      StartCertificate(key.get(), "Cairn hub", not_before, valid));
  X509* made = certificate.get();
  X509_set_issuer_name(made, X509_get_subject_name(issuer.get()));
  const std::pair<int, std::string> extensions[] = {
      {NID_basic_constraints, "critical,CA:FALSE"},
      {NID_key_usage, "critical,digitalSignature"},
      {NID_ext_key_usage, "serverAuth"},
      {NID_subject_key_identifier, "hash"},
      {NID_authority_key_identifier, "keyid:always"},
      {NID_subject_alt_name, alternatives},
  };
  for (const auto& [nid, value] : extensions) {
    CAIRN_RETURN_IF_ERROR(AddExtension(made, issuer.get(), nid, value));
  }
  if (X509_sign(made, issuer_key.get(), EVP_sha256()) == 0) {
    return OpenSslError("sign the server's certificate");
  }
  return ToPem(made, key.get());
}

absl::StatusOr<absl::Time> CertificateExpiry(absl::string_view certificate) {
  CAIRN_ASSIGN_OR_RETURN(Certificate parsed, ReadCertificate(certificate));
  tm when = {};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(parsed.get()), &when) != 1) {
    return absl::InvalidArgumentError("the certificate's end cannot be read");
  }
  return absl::FromTM(when, absl::UTCTimeZone());
}

}  // namespace cairn
