// The certificates of the tcp transport: an authority of one's own, a certificate for the service, one for
// each guest, whose common name is the VM's. Elliptic keys (P-256), TLS 1.3 only.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/error.h"
#include "esx-vmci/transport/endpoint.h"

namespace vdvs::esx {

struct CertificateWish {
  std::string name;                ///< The VM's name or uuid; for a service any name.
  std::vector<std::string> hosts;  ///< For a service: the names and addresses by which guests reach it.
  std::chrono::hours valid_for = std::chrono::hours(24 * 825);
};

/// Each writes <folder>/<file>.crt and .key (mode 0600, never overwritten). Errors: kExists, kIo, kInvalid.
base::Result<TlsFiles> make_authority(const std::string& folder,
                                      const CertificateWish& wish);  ///< ca.crt, ca.key
base::Result<TlsFiles> make_service_certificate(const std::string& folder,
                                                const CertificateWish& wish);  ///< service.crt, service.key
base::Result<TlsFiles> make_guest_certificate(const std::string& folder,
                                              const CertificateWish& wish);  ///< guest-<name>.crt, .key

}  // namespace vdvs::esx
