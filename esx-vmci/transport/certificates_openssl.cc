// Certificates by OpenSSL's EVP and X509 interfaces: P-256 keys, ECDSA with SHA-256, random serials of 127
// bits. Each kind carries what it may be used for, so that a guest's certificate never serves, and the
// service's never calls.
#include <fcntl.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <boost/asio/ip/address.hpp>
#include <memory>

#include "base/fd.h"
#include "esx-vmci/transport/certificates.h"

namespace vdvs::esx {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;
using base::UniqueFd;

constexpr std::size_t kMaxCommonNameBytes = 64;  ///< ub-common-name, RFC 5280 appendix A.
constexpr std::size_t kMaxPemBytes = 64 * 1024;
constexpr int kSerialBits = 127;
/// Clocks of guests differ: a new certificate is valid for one that is behind.
constexpr std::chrono::hours kBackdated{1};
constexpr std::chrono::hours kMaxValidFor{24 * 365 * 100};
constexpr unsigned kKeyMode = 0600;
constexpr unsigned kCertificateMode = 0644;

template <auto Function>
struct Free {
  template <typename T>
  void operator()(T* object) const {
    Function(object);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Free<::EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Free<::X509_free>>;
using Bio = std::unique_ptr<BIO, Free<::BIO_free_all>>;
using Number = std::unique_ptr<BIGNUM, Free<::BN_free>>;
using Extension = std::unique_ptr<X509_EXTENSION, Free<::X509_EXTENSION_free>>;

std::unexpected<base::Error> openssl_failed(std::string_view what) {
  char text[256] = {};
  ::ERR_error_string_n(::ERR_get_error(), text, sizeof text);
  ::ERR_clear_error();
  return fail(ErrorCode::kInternal, "{}: {}", what, text);
}

struct Authority {
  Certificate certificate;
  Key key;
};

/// What tells the three kinds apart.
struct Profile {
  const char* basic_constraints;
  const char* key_usage;
  const char* extended_key_usage;  ///< nullptr: none.
  std::chrono::hours life;         ///< Where none is asked for.
};
constexpr Profile kAuthorityProfile{"critical,CA:TRUE,pathlen:0", "critical,keyCertSign,cRLSign", nullptr,
                                    kAuthorityLife};
constexpr Profile kServiceProfile{"critical,CA:FALSE", "critical,digitalSignature", "serverAuth",
                                  kCertificateLife};
constexpr Profile kGuestProfile{"critical,CA:FALSE", "critical,digitalSignature", "clientAuth",
                                kCertificateLife};

Result<void> check_wish(const CertificateWish& wish) {
  if (wish.name.empty() || wish.name.size() > kMaxCommonNameBytes) {
    return fail(ErrorCode::kInvalid, "make a certificate for '{}': a name has 1 to {} bytes", wish.name,
                kMaxCommonNameBytes);
  }
  for (const char c : wish.name) {
    if (c == '/' || static_cast<unsigned char>(c) < ' ' || c == '\x7f')
      return fail(ErrorCode::kInvalid,
                  "make a certificate for '{}': '/' and control characters are not allowed", wish.name);
  }
  if (wish.name.front() == '.')
    return fail(ErrorCode::kInvalid, "make a certificate for '{}': a name does not begin with '.'",
                wish.name);
  if (wish.valid_for.count() < 0 || wish.valid_for > kMaxValidFor)
    return fail(ErrorCode::kInvalid, "make a certificate for '{}': valid for {} h (1 h to 100 years)",
                wish.name, wish.valid_for.count());
  return {};
}

/// "DNS:esx1,IP:10.0.0.1". Each host is looked at before OpenSSL sees it: its syntax has commas and colons.
Result<std::string> alternative_names(const std::vector<std::string>& hosts) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._*";
  constexpr std::size_t kMaxHostBytes = 253;
  if (hosts.empty()) {
    return std::unexpected(base::Error(ErrorCode::kInvalid,
                                       "make the service's certificate: no host is named",
                                       "name what guests connect to: --host NAME-OR-ADDRESS, as often as "
                                       "there are"));
  }
  std::string names;
  for (const std::string& host : hosts) {
    boost::system::error_code failure;
    const auto address = boost::asio::ip::make_address(host, failure);
    const bool is_name = failure && !host.empty() && host.size() <= kMaxHostBytes &&
                         host.find_first_not_of(kAllowed) == std::string::npos;
    if (failure && !is_name)
      return fail(ErrorCode::kInvalid, "make the service's certificate: '{}' is no host's name or address",
                  host);
    names += fmt::format("{}{}:{}", names.empty() ? "" : ",", is_name ? "DNS" : "IP",
                         is_name ? host : address.to_string());
  }
  return names;
}

Result<void> add_extension(X509& certificate, X509& issuer, int nid, const char* value) {
  X509V3_CTX context;
  ::X509V3_set_ctx(&context, &issuer, &certificate, nullptr, nullptr, 0);
  const Extension extension(::X509V3_EXT_nconf_nid(nullptr, &context, nid, value));
  if (extension == nullptr || ::X509_add_ext(&certificate, extension.get(), -1) != 1)
    return openssl_failed(fmt::format("add '{}' to a certificate", value));
  return {};
}

Result<void> set_serial(X509& certificate) {
  const Number number(::BN_new());
  if (number == nullptr || ::BN_rand(number.get(), kSerialBits, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) != 1 ||
      ::BN_to_ASN1_INTEGER(number.get(), ::X509_get_serialNumber(&certificate)) == nullptr) {
    return openssl_failed("draw a serial number");
  }
  return {};
}

Result<void> fill(X509& certificate, EVP_PKEY& key, const CertificateWish& wish, std::chrono::hours life) {
  RETURN_IF_ERROR(set_serial(certificate));
  X509_NAME* subject = ::X509_get_subject_name(&certificate);
  const long lifetime_seconds = std::chrono::seconds(life).count();
  if (::X509_set_version(&certificate, X509_VERSION_3) != 1 ||
      ::X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                                   reinterpret_cast<const unsigned char*>(wish.name.data()),
                                   static_cast<int>(wish.name.size()), -1, 0) != 1 ||
      ::X509_gmtime_adj(::X509_getm_notBefore(&certificate), -std::chrono::seconds(kBackdated).count()) ==
          nullptr ||
      ::X509_gmtime_adj(::X509_getm_notAfter(&certificate), lifetime_seconds) == nullptr ||
      ::X509_set_pubkey(&certificate, &key) != 1) {
    return openssl_failed(fmt::format("make a certificate for '{}'", wish.name));
  }
  return {};
}

/// `authority`: nullptr where the certificate signs itself.
Result<Certificate> make_certificate(const CertificateWish& wish, const Profile& profile,
                                     const std::string& hosts, EVP_PKEY& key, const Authority* authority) {
  Certificate certificate(::X509_new());
  if (certificate == nullptr) return openssl_failed("make a certificate");
  const auto life = wish.valid_for.count() == 0 ? profile.life : wish.valid_for;
  RETURN_IF_ERROR(fill(*certificate, key, wish, life));
  X509& issuer = authority == nullptr ? *certificate : *authority->certificate;
  if (::ASN1_TIME_compare(::X509_get0_notAfter(certificate.get()), ::X509_get0_notAfter(&issuer)) > 0) {
    return std::unexpected(
        base::Error(ErrorCode::kInvalid,
                    fmt::format("make a certificate for '{}': it would outlive its authority", wish.name),
                    "ask for fewer days, or make a new authority"));
  }
  if (::X509_set_issuer_name(certificate.get(), ::X509_get_subject_name(&issuer)) != 1)
    return openssl_failed("name the issuer");
  RETURN_IF_ERROR(add_extension(*certificate, issuer, NID_basic_constraints, profile.basic_constraints));
  RETURN_IF_ERROR(add_extension(*certificate, issuer, NID_key_usage, profile.key_usage));
  RETURN_IF_ERROR(add_extension(*certificate, issuer, NID_subject_key_identifier, "hash"));
  RETURN_IF_ERROR(add_extension(*certificate, issuer, NID_authority_key_identifier, "keyid"));
  if (profile.extended_key_usage != nullptr)
    RETURN_IF_ERROR(add_extension(*certificate, issuer, NID_ext_key_usage, profile.extended_key_usage));
  if (!hosts.empty())
    RETURN_IF_ERROR(add_extension(*certificate, issuer, NID_subject_alt_name, hosts.c_str()));
  EVP_PKEY* signer = authority == nullptr ? &key : authority->key.get();
  if (::X509_sign(certificate.get(), signer, ::EVP_sha256()) == 0)
    return openssl_failed("sign a certificate");
  return certificate;
}

std::string content_of(BIO& bio) {
  char* data = nullptr;
  const long length = BIO_get_mem_data(&bio, &data);
  return std::string(data, static_cast<std::size_t>(length));
}

Result<void> write_new_file(const std::string& path, std::string_view bytes, unsigned mode) {
  auto fd = base::open_file(path, O_WRONLY | O_CREAT | O_EXCL, mode);
  if (!fd && fd.error().code() == ErrorCode::kExists) {
    return std::unexpected(base::Error(ErrorCode::kExists, fmt::format("write '{}': it exists already", path),
                                       "move it away, or choose another folder or name"));
  }
  if (!fd) return std::unexpected(std::move(fd).error());
  auto written = base::write_all(*fd, bytes, path);
  if (written) written = base::sync_all(*fd, path);
  if (!written) ::unlink(path.c_str());
  return written;
}

/// Both or none.
Result<void> write_pair(const TlsFiles& files, X509& certificate, EVP_PKEY& key) {
  const Bio certificate_pem(::BIO_new(::BIO_s_mem()));
  const Bio key_pem(::BIO_new(::BIO_s_secmem()));
  if (certificate_pem == nullptr || key_pem == nullptr ||
      ::PEM_write_bio_X509(certificate_pem.get(), &certificate) != 1 ||
      ::PEM_write_bio_PKCS8PrivateKey(key_pem.get(), &key, nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    return openssl_failed("write a certificate");
  }
  RETURN_IF_ERROR(write_new_file(files.key, content_of(*key_pem), kKeyMode));
  auto written = write_new_file(files.certificate, content_of(*certificate_pem), kCertificateMode);
  if (!written) ::unlink(files.key.c_str());
  return written;
}

Result<Authority> load_authority(const TlsFiles& files) {
  auto load = [](const std::string& path) -> Result<Bio> {
    ASSIGN_OR_RETURN(std::string text, base::read_file(path, kMaxPemBytes));
    Bio bio(::BIO_new(::BIO_s_mem()));
    if (bio == nullptr || ::BIO_write(bio.get(), text.data(), static_cast<int>(text.size())) < 0)
      return openssl_failed(fmt::format("read '{}'", path));
    return bio;
  };
  auto certificate_pem = load(files.authority);
  if (!certificate_pem) {
    return std::unexpected(
        std::move(certificate_pem).error().with_remedy("make an authority first: 'vdvs cert authority'"));
  }
  ASSIGN_OR_RETURN(Bio key_pem, load(files.key));
  Authority authority{
      .certificate = Certificate(::PEM_read_bio_X509(certificate_pem->get(), nullptr, nullptr, nullptr)),
      .key = Key(::PEM_read_bio_PrivateKey(key_pem.get(), nullptr, nullptr, nullptr))};
  ::ERR_clear_error();
  if (authority.certificate == nullptr)
    return fail(ErrorCode::kInvalid, "read authority '{}': no certificate in PEM", files.authority);
  if (authority.key == nullptr)
    return fail(ErrorCode::kInvalid, "read authority's key '{}': no key in PEM", files.key);
  if (::X509_check_private_key(authority.certificate.get(), authority.key.get()) != 1 ||
      ::X509_check_ca(authority.certificate.get()) != 1) {
    return fail(ErrorCode::kInvalid, "use authority '{}': it is none, or its key is another's",
                files.authority);
  }
  return authority;
}

TlsFiles files_in(const std::string& folder, const std::string& stem) {
  return {.authority = folder + "/ca.crt",
          .certificate = fmt::format("{}/{}.crt", folder, stem),
          .key = fmt::format("{}/{}.key", folder, stem)};
}

Result<TlsFiles> make_signed(const std::string& folder, const std::string& stem, const CertificateWish& wish,
                             const Profile& profile, const std::string& hosts) {
  const TlsFiles files = files_in(folder, stem);
  ASSIGN_OR_RETURN(
      const Authority authority,
      load_authority({.authority = files.authority, .certificate = {}, .key = folder + "/ca.key"}));
  const Key key(::EVP_EC_gen("P-256"));
  if (key == nullptr) return openssl_failed("make a key");
  ASSIGN_OR_RETURN(const Certificate certificate, make_certificate(wish, profile, hosts, *key, &authority));
  RETURN_IF_ERROR(write_pair(files, *certificate, *key));
  return files;
}

}  // namespace

Result<TlsFiles> make_authority(const std::string& folder, const CertificateWish& wish) {
  RETURN_IF_ERROR(check_wish(wish));
  RETURN_IF_ERROR(base::make_folders(folder, 0700));
  const Key key(::EVP_EC_gen("P-256"));
  if (key == nullptr) return openssl_failed("make a key");
  ASSIGN_OR_RETURN(const Certificate certificate,
                   make_certificate(wish, kAuthorityProfile, {}, *key, nullptr));
  const TlsFiles files = files_in(folder, "ca");
  RETURN_IF_ERROR(write_pair(files, *certificate, *key));
  return files;
}

Result<TlsFiles> make_service_certificate(const std::string& folder, const CertificateWish& wish) {
  RETURN_IF_ERROR(check_wish(wish));
  ASSIGN_OR_RETURN(const std::string hosts, alternative_names(wish.hosts));
  return make_signed(folder, "service", wish, kServiceProfile, hosts);
}

Result<TlsFiles> make_guest_certificate(const std::string& folder, const CertificateWish& wish) {
  RETURN_IF_ERROR(check_wish(wish));
  return make_signed(folder, "guest-" + wish.name, wish, kGuestProfile, {});
}

}  // namespace vdvs::esx
