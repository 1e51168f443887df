#include "server/setup/certificate_authority.h"

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include "gtest/gtest.h"

namespace cairn {
namespace {

constexpr absl::Duration kDay = absl::Hours(24);

X509* Parse(const std::string& pem) {
  BIO* bio = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
  X509* out = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr);
  BIO_free(bio);
  return out;
}

// 0 when a strict client that trusts `ca` accepts the server at `when`.
int Verify(const std::string& ca, const std::string& server, absl::Time when) {
  X509_STORE* store = X509_STORE_new();
  X509* root = Parse(ca);
  X509* leaf = Parse(server);
  X509_STORE_add_cert(store, root);
  X509_STORE_CTX* context = X509_STORE_CTX_new();
  X509_STORE_CTX_init(context, store, leaf, nullptr);
  X509_STORE_CTX_set_default(context, "ssl_server");
  X509_VERIFY_PARAM* param = X509_STORE_CTX_get0_param(context);
  X509_VERIFY_PARAM_set_time(param, absl::ToTimeT(when));
  X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_X509_STRICT);
  int error =
      X509_verify_cert(context) == 1 ? 0 : X509_STORE_CTX_get_error(context);
  X509_STORE_CTX_free(context);
  X509_STORE_free(store);
  X509_free(root);
  X509_free(leaf);
  return error;
}

class CertificateAuthorityTest : public ::testing::Test {
 protected:
  const absl::Time now_ = absl::FromUnixSeconds(1'800'000'000);
  const CertificatePair ca_ = *MakeAuthority("test", now_, 30 * kDay);
};

TEST_F(CertificateAuthorityTest, ServerCertificateHoldsForItsNamesAndTime) {
  auto server = MakeServerCertificate(
      ca_, {"localhost", "127.0.0.1", "::1", "*.example.org"}, now_, 10 * kDay);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_EQ(Verify(ca_.certificate, server->certificate, now_), 0);
  EXPECT_EQ(Verify(ca_.certificate, server->certificate, now_ + 11 * kDay),
            X509_V_ERR_CERT_HAS_EXPIRED);
  X509* leaf = Parse(server->certificate);
  EXPECT_EQ(X509_check_host(leaf, "localhost", 0, 0, nullptr), 1);
  EXPECT_EQ(X509_check_host(leaf, "hub.example.org", 0, 0, nullptr), 1);
  EXPECT_EQ(X509_check_host(leaf, "example.com", 0, 0, nullptr), 0);
  EXPECT_EQ(X509_check_ip_asc(leaf, "127.0.0.1", 0), 1);
  EXPECT_EQ(X509_check_ip_asc(leaf, "::1", 0), 1);
  X509_free(leaf);
}

TEST_F(CertificateAuthorityTest, AnotherAuthorityIsNotTrusted) {
  auto other = MakeAuthority("other", now_, 30 * kDay);
  auto server = MakeServerCertificate(*other, {"localhost"}, now_, 10 * kDay);
  ASSERT_TRUE(other.ok() && server.ok());
  EXPECT_NE(Verify(ca_.certificate, server->certificate, now_), 0);
}

TEST_F(CertificateAuthorityTest, TellsWhenACertificateEnds) {
  auto end = CertificateExpiry(ca_.certificate);
  ASSERT_TRUE(end.ok());
  EXPECT_EQ(*end, now_ + 30 * kDay);
  EXPECT_EQ(CertificateExpiry("nonsense").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(CertificateAuthorityTest, RefusesNamesThatAreNone) {
  for (const std::string& bad :
       {std::string(""), std::string("a b"), std::string("x,IP:1.2.3.4"),
        std::string("-x"), std::string(".x"), std::string(254, 'a')}) {
    EXPECT_EQ(MakeServerCertificate(ca_, {bad}, now_, kDay).status().code(),
              absl::StatusCode::kInvalidArgument)
        << bad;
  }
  EXPECT_EQ(MakeServerCertificate(ca_, {}, now_, kDay).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace cairn
