#include "mountd/startup_gate.h"

#include <utility>

namespace vdvs::mountd {

void StartupGate::handle(PluginRequest request, Respond respond) {
  if (handler_ != nullptr) return handler_->handle(std::move(request), std::move(respond));
  if (request.method == Method::kCapabilities) return respond(Capabilities{});
  if (waiting_.size() >= kMaxWaitingRequests) return respond(NoAnswer{});
  waiting_.push_back({std::move(request), std::move(respond)});
}

void StartupGate::open(PluginHandler& handler) {
  handler_ = &handler;
  for (Waiting& one : std::exchange(waiting_, {})) handler.handle(std::move(one.request), std::move(one.respond));
}

}  // namespace vdvs::mountd
