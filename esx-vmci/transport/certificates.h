// The certificates of the tcp transport: an authority of one's own, a certificate for the service, one for
// each guest, whose common name is the VM's. Elliptic keys (P-256), TLS 1.3 only.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/error.h"
#include "esx-vmci/transport/endpoint.h"

namespace vdvs::esx {

/// How long they are valid where nothing else is asked for.
inline constexpr std::chrono::hours kAuthorityLife{24 * 3650};
inline constexpr std::chrono::hours kCertificateLife{24 * 825};

struct CertificateWish {
  std::string name;                 ///< The VM's name or uuid; for a service any name.
  std::vector<std::string> hosts;   ///< For a service: the names and addresses by which guests reach it.
  std::chrono::hours valid_for{0};  ///< 0: as above. No certificate outlives its authority.
};

/// Each writes <folder>/<file>.crt and .key (mode 0600), both or none, and never over a file that is there.
/// The latter two need the authority's files in the folder. Errors: kExists, kIo, kNotFound, kInvalid.
base::Result<TlsFiles> make_authority(const std::string& folder,
                                      const CertificateWish& wish);  ///< ca.crt, ca.key
base::Result<TlsFiles> make_service_certificate(const std::string& folder,
                                                const CertificateWish& wish);  ///< service.crt, service.key
base::Result<TlsFiles> make_guest_certificate(const std::string& folder,
                                              const CertificateWish& wish);  ///< guest-<name>.crt, .key

}  // namespace vdvs::esx
