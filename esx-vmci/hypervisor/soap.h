// SOAP as vCenter and ESXi speak it (vim25): requests are printed, replies are decoded, as pure functions.
//
// A request is an envelope with one element, the method, whose first child `_this` names the object that is
// called. A reply has either "<Method>Response" with `returnval` elements, or a Fault: a text for people and,
// in its detail, one element whose type is the kind of the fault. Managed objects are referred to by type and
// value ("VirtualMachine", "vm-42"). The order of a request's elements is the schema's: base types first.
//
// Replies come from outside: they are bounded in bytes, elements and depth, and what is not as it should be
// is an error, never a default. No entity is ever expanded from a DTD.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace vdvs::esx::soap {

/// The devices of 1000 VMs are some 20 MB.
inline constexpr std::size_t kMaxReplyBytes = std::size_t{64} << 20;
inline constexpr std::size_t kMaxXmlElements = 2'000'000;
inline constexpr std::size_t kMaxXmlDepth = 64;

/// A reference to a managed object.
struct MoRef {
  std::string type;
  std::string value;
  auto operator<=>(const MoRef&) const = default;
  bool is_empty() const { return value.empty(); }
};

/// An element of a reply, without namespaces.
struct Element {
  std::string name;
  std::string xsi_type;  ///< "VirtualDisk"; empty where the schema fixes it.
  std::string ref_type;  ///< The attribute `type`: set where the element is a reference.
  std::string text;
  std::vector<Element> children;

  /// The first child of that name, or nullptr.
  const Element* find(std::string_view child) const;
  /// Follows a path of children: "backing.uuid".
  const Element* find_path(std::string_view path) const;
  std::vector<const Element*> all(std::string_view child) const;
  /// The text at a path; empty where there is none.
  std::string text_at(std::string_view path) const;
  std::optional<std::int64_t> number_at(std::string_view path) const;
  /// This element as a reference; empty where it is none.
  MoRef ref() const { return {ref_type, text}; }
};

struct Fault {
  std::string kind;  ///< "FileAlreadyExists"; empty where the server does not say.
  std::string text;  ///< For people; may be empty.
};

struct Reply {
  Element response;  ///< "<Method>Response"; its children are `returnval`.
  std::optional<Fault> fault;
};

/// Errors: kCorrupt, kLimit.
base::Result<Reply> decode_reply(std::string_view bytes);
/// One XML document, without a look at what it means. Errors: kCorrupt, kLimit.
base::Result<Element> decode_xml(std::string_view bytes);

/// The fault of a task's `info.error` or of `missingSet`: a LocalizedMethodFault.
Fault decode_localized_fault(const Element& error);

/// Text with &, <, >, quotes and control characters made harmless (XML 1.0 has no other control characters).
std::string escape(std::string_view text);
/// "<name>text</name>", the text escaped.
std::string tag(std::string_view name, std::string_view text);
std::string tag_number(std::string_view name, std::int64_t number);
std::string tag_bool(std::string_view name, bool value);
std::string tag(std::string_view name, const MoRef& ref);
/// "<name xsi:type="type">inner</name>"; without the attribute where `type` is empty.
std::string wrap(std::string_view name, std::string_view type, std::string_view inner);

/// Which service a request is for: they differ in path, namespace and action.
enum class Service { kVim, kPbm };

/// The whole envelope. `session`: for kPbm, the session of the other service.
std::string print_request(Service service, std::string_view method, const MoRef& self,
                          std::string_view arguments, std::string_view session);

/// What a fault means to us: the code of its kind, `what` in front of its text.
base::Error to_error(const Fault& fault, std::string_view what);

}  // namespace vdvs::esx::soap
