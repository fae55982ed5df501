// Certificates that 'vdvs cert' never makes: expired, for another use, without a name, with two. Signed by
// the authority of a folder that it has made.
#pragma once

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <string>
#include <vector>

#include "esx-vmci/transport/certificates.h"
#include "tests/esx-vmci/transport/transports.h"

namespace vdvs::esx::test {

struct OddCertificate {
  std::vector<std::string> common_names = {"web-1"};
  std::chrono::hours valid_from{-1};  ///< From now.
  std::chrono::hours valid_until{24};
  std::string extended_use = "clientAuth";  ///< Empty: the extension is left out.
  std::string hosts = {};                   ///< "IP:127.0.0.1"; empty: the extension is left out.
};

/// A file of the C library, since that is what OpenSSL reads and writes PEM with.
using File = std::unique_ptr<std::FILE, decltype([](std::FILE* file) { std::fclose(file); })>;

inline void add_extension(X509* certificate, int nid, const std::string& value) {
  X509V3_CTX context;
  ::X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = ::X509V3_EXT_nconf_nid(nullptr, &context, nid, value.c_str());
  ASSERT_NE(extension, nullptr) << value;
  ::X509_add_ext(certificate, extension, -1);
  ::X509_EXTENSION_free(extension);
}

/// Writes <folder>/<stem>.crt and .key.
inline TlsFiles mint(const std::string& folder, const std::string& stem, const OddCertificate& wish) {
  const TlsFiles files{.authority = folder + "/ca.crt",
                       .certificate = folder + "/" + stem + ".crt",
                       .key = folder + "/" + stem + ".key"};
  const File authority_file(std::fopen(files.authority.c_str(), "r"));
  const File authority_key_file(std::fopen((folder + "/ca.key").c_str(), "r"));
  X509* authority = ::PEM_read_X509(authority_file.get(), nullptr, nullptr, nullptr);
  EVP_PKEY* authority_key = ::PEM_read_PrivateKey(authority_key_file.get(), nullptr, nullptr, nullptr);
  EVP_PKEY* key = ::EVP_EC_gen("P-256");
  X509* certificate = ::X509_new();
  ::X509_set_version(certificate, X509_VERSION_3);
  ::ASN1_INTEGER_set(::X509_get_serialNumber(certificate), 42);
  for (const std::string& name : wish.common_names) {
    ::X509_NAME_add_entry_by_txt(::X509_get_subject_name(certificate), "CN", MBSTRING_UTF8,
                                 reinterpret_cast<const unsigned char*>(name.data()),
                                 static_cast<int>(name.size()), -1, 0);
  }
  ::X509_gmtime_adj(::X509_getm_notBefore(certificate), std::chrono::seconds(wish.valid_from).count());
  ::X509_gmtime_adj(::X509_getm_notAfter(certificate), std::chrono::seconds(wish.valid_until).count());
  ::X509_set_pubkey(certificate, key);
  ::X509_set_issuer_name(certificate, ::X509_get_subject_name(authority));
  if (!wish.extended_use.empty()) add_extension(certificate, NID_ext_key_usage, wish.extended_use);
  if (!wish.hosts.empty()) add_extension(certificate, NID_subject_alt_name, wish.hosts);
  EXPECT_NE(::X509_sign(certificate, authority_key, ::EVP_sha256()), 0);
  const File certificate_file(std::fopen(files.certificate.c_str(), "w"));
  const File key_file(std::fopen(files.key.c_str(), "w"));
  EXPECT_EQ(::PEM_write_X509(certificate_file.get(), certificate), 1);
  EXPECT_EQ(::PEM_write_PrivateKey(key_file.get(), key, nullptr, nullptr, 0, nullptr, nullptr), 1);
  ::X509_free(certificate);
  ::EVP_PKEY_free(key);
  ::EVP_PKEY_free(authority_key);
  ::X509_free(authority);
  return files;
}

}  // namespace vdvs::esx::test
