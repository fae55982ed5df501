#include <charconv>
#include <pugixml.hpp>

#include "esx-vmci/hypervisor/soap.h"

namespace vdvs::esx::soap {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;

/// No comments, no processing instructions, no DTD; text with its entities and line ends, never trimmed.
constexpr unsigned kParse = pugi::parse_cdata | pugi::parse_escapes | pugi::parse_eol;

std::string_view local_name(std::string_view name) {
  const std::size_t colon = name.rfind(':');
  return colon == std::string_view::npos ? name : name.substr(colon + 1);
}

/// Any prefix may stand for XMLSchema-instance; `type` without one is the attribute of references.
void read_attributes(const pugi::xml_node& node, Element& element) {
  for (const pugi::xml_attribute& attribute : node.attributes()) {
    const std::string_view name = attribute.name();
    if (name == "type") {
      element.ref_type = attribute.value();
    } else if (local_name(name) == "type" && !name.starts_with("xmlns")) {
      element.xsi_type = local_name(attribute.value());
    }
  }
}

Result<void> convert(const pugi::xml_node& node, Element& element, std::size_t depth, std::size_t& elements) {
  if (depth > kMaxXmlDepth) return fail(ErrorCode::kLimit, "XML is nested deeper than {}", kMaxXmlDepth);
  if (++elements > kMaxXmlElements)
    return fail(ErrorCode::kLimit, "XML has more than {} elements", kMaxXmlElements);
  element.name = local_name(node.name());
  read_attributes(node, element);
  for (const pugi::xml_node& child : node.children()) {
    if (child.type() == pugi::node_element) {
      RETURN_IF_ERROR(convert(child, element.children.emplace_back(), depth + 1, elements));
    } else {
      element.text += child.value();
    }
  }
  if (!element.children.empty()) element.text.clear();  // the blanks between elements
  return {};
}

}  // namespace

Result<Element> decode_xml(std::string_view bytes) {
  if (bytes.size() > kMaxReplyBytes)
    return fail(ErrorCode::kLimit, "XML of {} bytes (at most {})", bytes.size(), kMaxReplyBytes);
  pugi::xml_document document;
  const pugi::xml_parse_result parsed =
      document.load_buffer(bytes.data(), bytes.size(), kParse, pugi::encoding_utf8);
  if (!parsed)
    return fail(ErrorCode::kCorrupt, "XML is broken at byte {}: {}", parsed.offset, parsed.description());
  const pugi::xml_node root = document.document_element();
  if (!root) return fail(ErrorCode::kCorrupt, "XML has no element");
  Element element;
  std::size_t elements = 0;
  RETURN_IF_ERROR(convert(root, element, 0, elements));
  return element;
}

Result<Reply> decode_reply(std::string_view bytes) {
  ASSIGN_OR_RETURN(Element envelope, decode_xml(bytes));
  if (envelope.name != "Envelope")
    return fail(ErrorCode::kCorrupt, "a SOAP reply was expected, this is '{}'", envelope.name);
  const Element* body = envelope.find("Body");
  if (body == nullptr || body->children.size() != 1)
    return fail(ErrorCode::kCorrupt, "a SOAP reply has one Body with one element");
  Reply reply{.response = body->children.front(), .fault = std::nullopt};
  if (reply.response.name != "Fault") return reply;
  Fault fault{.kind = {}, .text = reply.response.text_at("faultstring")};
  const Element* detail = reply.response.find("detail");
  if (detail != nullptr && !detail->children.empty()) {
    const Element& kind = detail->children.front();
    fault.kind = kind.xsi_type;
    if (fault.kind.empty()) {  // the element's name is the kind with "Fault" at its end
      fault.kind = kind.name.ends_with("Fault") ? kind.name.substr(0, kind.name.size() - 5) : kind.name;
    }
  }
  reply.fault = std::move(fault);
  return reply;
}

Fault decode_localized_fault(const Element& error) {
  Fault fault{.kind = {}, .text = error.text_at("localizedMessage")};
  if (const Element* kind = error.find("fault")) fault.kind = kind->xsi_type;
  return fault;
}

const Element* Element::find(std::string_view child) const {
  for (const Element& element : children) {
    if (element.name == child) return &element;
  }
  return nullptr;
}

const Element* Element::find_path(std::string_view path) const {
  const Element* element = this;
  while (element != nullptr && !path.empty()) {
    const std::size_t dot = path.find('.');
    element = element->find(path.substr(0, dot));
    path = dot == std::string_view::npos ? std::string_view() : path.substr(dot + 1);
  }
  return element;
}

std::vector<const Element*> Element::all(std::string_view child) const {
  std::vector<const Element*> found;
  for (const Element& element : children) {
    if (element.name == child) found.push_back(&element);
  }
  return found;
}

std::string Element::text_at(std::string_view path) const {
  const Element* element = find_path(path);
  return element == nullptr ? std::string() : element->text;
}

std::optional<std::int64_t> Element::number_at(std::string_view path) const {
  const Element* element = find_path(path);
  if (element == nullptr) return std::nullopt;
  std::int64_t number = 0;
  const char* end = element->text.data() + element->text.size();
  auto [stop, error] = std::from_chars(element->text.data(), end, number);
  if (error != std::errc() || stop != end) return std::nullopt;
  return number;
}

}  // namespace vdvs::esx::soap
