#include "esx-vmci/service/request_pipeline.h"

#include <exception>
#include <string>
#include <utility>

#include "base/log.h"
#include "esx-vmci/service/request_work.h"

namespace vdvs::esx {
namespace {

namespace json = boost::json;

/// What a request leaves in the log: one line for each that changes something, or that was refused.
void write_log(const Vm& vm, const Request& request, const base::Result<json::value>& result) {
  const auto command = find_command(request.command);
  const bool only_reads = command == Command::kGet || command == Command::kList ||
                          command == Command::kVersion || command == Command::kAttached;
  if (!result) {
    base::log::info("refused", {{"command", request.command},
                                {"volume", request.name},
                                {"vm", vm.name},
                                {"cause", result.error().text()}});
  } else if (only_reads) {
    base::log::debug("answered", {{"command", request.command}, {"volume", request.name}, {"vm", vm.name}});
  } else {
    base::log::info("done", {{"command", request.command}, {"volume", request.name}, {"vm", vm.name}});
  }
}

}  // namespace

json::value error_body(const base::Error& error, bool with_details) {
  // Who is asked for a disk that somebody else has must learn what to do, also through the predecessor's
  // plugin, which shows one text and knows no remedies.
  const bool needs_remedy =
      !with_details && error.code() == base::ErrorCode::kBusyElsewhere && !error.remedy().empty();
  json::value body = error_reply(needs_remedy ? error.message() + "; " + error.remedy() : error.message());
  if (!with_details) return body;
  json::object& members = body.as_object();
  members["code"] = base::code_name(error.code());
  if (!error.remedy().empty()) members["remedy"] = error.remedy();
  return body;
}

json::value RequestPipeline::answer(const Vm& vm, const Request& request) const {
  try {
    base::Result<json::value> result = RequestWork(parts_, vm, request).run();
    write_log(vm, request, result);
    if (result) return std::move(*result);
    return error_body(result.error(), request.wants_details);
  } catch (const std::exception& error) {
    // Nobody below throws on purpose: this is a mistake of ours, or memory has run out.
    base::log::error("a request ended in an exception",
                     {{"command", request.command}, {"volume", request.name}, {"what", error.what()}});
    return error_body({base::ErrorCode::kInternal, fmt::format("Server returned an error: {}", error.what())},
                      request.wants_details);
  }
}

}  // namespace vdvs::esx
