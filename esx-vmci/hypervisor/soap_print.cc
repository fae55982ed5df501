#include <array>
#include <utility>

#include "esx-vmci/hypervisor/soap.h"

namespace vdvs::esx::soap {
namespace {

using base::ErrorCode;

/// The kinds of fault that mean something to us; all others are kIo.
struct FaultRow {
  std::string_view kind;
  ErrorCode code;
};

constexpr std::array kFaults = {
    FaultRow{"FileAlreadyExists", ErrorCode::kExists},
    FaultRow{"AlreadyExists", ErrorCode::kExists},
    FaultRow{"DuplicateName", ErrorCode::kExists},
    FaultRow{"FileNotFound", ErrorCode::kNotFound},
    FaultRow{"NotFound", ErrorCode::kNotFound},
    FaultRow{"ManagedObjectNotFound", ErrorCode::kNotFound},
    FaultRow{"InvalidDatastore", ErrorCode::kUnavailable},
    FaultRow{"FileLocked", ErrorCode::kBusyElsewhere},
    FaultRow{"DiskMoveTypeNotSupported", ErrorCode::kUnsupported},
    FaultRow{"NotSupported", ErrorCode::kUnsupported},
    FaultRow{"NotImplemented", ErrorCode::kUnsupported},
    FaultRow{"MethodNotFound", ErrorCode::kUnsupported},
    FaultRow{"DeviceHotPlugNotSupported", ErrorCode::kUnsupported},
    FaultRow{"NoDiskSpace", ErrorCode::kNoSpace},
    FaultRow{"InsufficientStorageSpace", ErrorCode::kNoSpace},
    FaultRow{"InsufficientDisks", ErrorCode::kNoSpace},
    FaultRow{"NoPermission", ErrorCode::kDenied},
    FaultRow{"InvalidLogin", ErrorCode::kDenied},
    FaultRow{"InvalidLocale", ErrorCode::kDenied},
    FaultRow{"NotAuthenticated", ErrorCode::kDenied},
    FaultRow{"RestrictedVersion", ErrorCode::kDenied},
    FaultRow{"RestrictedByAdministrator", ErrorCode::kDenied},
    FaultRow{"InvalidArgument", ErrorCode::kInvalid},
    FaultRow{"InvalidName", ErrorCode::kInvalid},
    FaultRow{"InvalidDeviceSpec", ErrorCode::kInvalid},
    FaultRow{"InvalidDatastorePath", ErrorCode::kInvalid},
    FaultRow{"InvalidRequest", ErrorCode::kInternal},
    FaultRow{"ResourceInUse", ErrorCode::kInUse},
    FaultRow{"InvalidPowerState", ErrorCode::kInUse},
    FaultRow{"InvalidState", ErrorCode::kInUse},
    FaultRow{"TaskInProgress", ErrorCode::kUnavailable},
    FaultRow{"ConcurrentAccess", ErrorCode::kUnavailable},
    FaultRow{"InaccessibleDatastore", ErrorCode::kUnavailable},
    FaultRow{"InvalidDatastoreState", ErrorCode::kUnavailable},
    FaultRow{"DatastoreNotWritableOnHost", ErrorCode::kReadOnly},
    FaultRow{"HostCommunication", ErrorCode::kUnavailable},
    FaultRow{"HostNotConnected", ErrorCode::kUnavailable},
    FaultRow{"HostNotReachable", ErrorCode::kUnavailable},
    FaultRow{"RequestCanceled", ErrorCode::kUnavailable},
    FaultRow{"LimitExceeded", ErrorCode::kLimit},
    FaultRow{"TooManyDevices", ErrorCode::kLimit},
};

ErrorCode code_of(const Fault& fault) {
  for (const FaultRow& row : kFaults) {
    if (row.kind == fault.kind) return row.code;
  }
  // ESXi reports the lock of another host's VM inside a fault of a general kind ("Failed to lock the file").
  if (fault.text.find("lock the file") != std::string::npos) return ErrorCode::kBusyElsewhere;
  if (fault.text.find("No space left") != std::string::npos) return ErrorCode::kNoSpace;
  return ErrorCode::kIo;
}

std::string remedy_of(const Fault& fault) {
  if (fault.kind == "InvalidLogin") return "correct the user or the password of the vSphere configuration";
  if (fault.kind == "NoPermission")
    return "give the service's user the privileges that docs/vsphere.md lists";
  if (fault.kind == "RestrictedVersion")
    return "the host's licence does not allow changes through its API: use a licensed host or vCenter";
  return {};
}

}  // namespace

std::string escape(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&apos;";
        break;
      case '\t':
      case '\n':
        result += c;
        break;
      default:
        if (static_cast<unsigned char>(c) >= 0x20) result += c;
    }
  }
  return result;
}

std::string tag(std::string_view name, std::string_view text) {
  return fmt::format("<{0}>{1}</{0}>", name, escape(text));
}

std::string tag_number(std::string_view name, std::int64_t number) {
  return fmt::format("<{0}>{1}</{0}>", name, number);
}

std::string tag_bool(std::string_view name, bool value) {
  return fmt::format("<{0}>{1}</{0}>", name, value ? "true" : "false");
}

std::string tag(std::string_view name, const MoRef& ref) {
  return fmt::format("<{0} type=\"{1}\">{2}</{0}>", name, escape(ref.type), escape(ref.value));
}

std::string wrap(std::string_view name, std::string_view type, std::string_view inner) {
  if (type.empty()) return fmt::format("<{0}>{1}</{0}>", name, inner);
  return fmt::format("<{0} xsi:type=\"{1}\">{2}</{0}>", name, type, inner);
}

std::string print_request(Service service, std::string_view method, const MoRef& self,
                          std::string_view arguments, std::string_view session) {
  std::string header;
  if (service == Service::kPbm && !session.empty()) {
    header = fmt::format("<soapenv:Header><vcSessionCookie>{}</vcSessionCookie></soapenv:Header>",
                         escape(session));
  }
  return fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
      "<soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\""
      " xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\""
      " xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">{}"
      "<soapenv:Body><{} xmlns=\"{}\">{}{}</{}></soapenv:Body></soapenv:Envelope>",
      header, method, service == Service::kPbm ? "urn:pbm" : "urn:vim25", tag("_this", self), arguments,
      method);
}

base::Error to_error(const Fault& fault, std::string_view what) {
  const std::string kind = fault.kind.empty() ? "a fault without a kind" : fault.kind;
  std::string message = fault.text.empty() || fault.text.starts_with("*")
                            ? fmt::format("{}: {}", what, kind)
                            : fmt::format("{}: {} ({})", what, fault.text, kind);
  return base::Error(code_of(fault), std::move(message), remedy_of(fault));
}

}  // namespace vdvs::esx::soap
