// What a session reads: properties through the PropertyCollector, and through it how tasks end.
#include <algorithm>

#include "esx-vmci/hypervisor/vsphere_session.h"

namespace vdvs::esx {
namespace {

using base::Deadline;
using base::ErrorCode;
using base::fail;
using base::Result;
using soap::Element;
using soap::MoRef;

constexpr std::int64_t kMaxObjectsAtOnce = 100;
constexpr std::chrono::milliseconds kFirstPause{100};
constexpr std::chrono::milliseconds kLongestPause{5'000};
/// How long a server keeps one question for a task's change open; then the task itself is looked at.
constexpr std::chrono::seconds kTaskWait{10};
/// Beyond what the server may wait.
constexpr std::chrono::seconds kWaitSlack{20};

std::string property_set(std::string_view type, const std::vector<std::string>& properties) {
  std::string paths;
  for (const std::string& property : properties) paths += soap::tag("pathSet", property);
  return soap::wrap("propSet", "", soap::tag("type", type) + soap::tag_bool("all", false) + paths);
}

VsphereObject decode_object(const Element& content, std::string_view set, std::string_view value) {
  VsphereObject object;
  if (const Element* ref = content.find("obj")) object.ref = ref->ref();
  for (const Element* property : content.all(set)) {
    if (const Element* val = property->find(value)) object.properties[property->text_at("name")] = *val;
  }
  return object;
}

/// A task's name is its method's, with or without the ending.
std::string_view without_task(std::string_view method) {
  constexpr std::string_view kEnding = "_Task";
  if (method.ends_with(kEnding)) method.remove_suffix(kEnding.size());
  return method;
}

bool is_lost(const base::Error& error) { return error.code() == ErrorCode::kUnavailable; }

}  // namespace

std::string filter_of(const MoRef& object, const std::vector<std::string>& properties) {
  return property_set(object.type, properties) +
         soap::wrap("objectSet", "", soap::tag("obj", object) + soap::tag_bool("skip", false));
}

Result<MoRef> VsphereSession::view_of(const std::string& type, Deadline deadline) {
  ASSIGN_OR_RETURN(const Login now, login(deadline));
  if (auto found = now.views.find(type); found != now.views.end()) return found->second;
  const std::string arguments = soap::tag("container", now.roots.root_folder) + soap::tag("type", type) +
                                soap::tag_bool("recursive", true);
  ASSIGN_OR_RETURN(const Element reply,
                   call("CreateContainerView", now.roots.view_manager, arguments, Effect::kReads, deadline));
  const Element* view = reply.find("returnval");
  if (view == nullptr) return fail(ErrorCode::kCorrupt, "CreateContainerView: no view");
  base::MutexLock lock(mutex_);
  if (login_ && login_->number == now.number) login_->views[type] = view->ref();
  return view->ref();
}

Result<std::string> VsphereSession::filter_of_all(const std::string& type,
                                                  const std::vector<std::string>& properties,
                                                  Deadline deadline) {
  ASSIGN_OR_RETURN(const MoRef view, view_of(type, deadline));
  const std::string traversal = soap::wrap("selectSet", "TraversalSpec",
                                           soap::tag("name", "all") + soap::tag("type", "ContainerView") +
                                               soap::tag("path", "view") + soap::tag_bool("skip", false));
  return property_set(type, properties) +
         soap::wrap("objectSet", "", soap::tag("obj", view) + soap::tag_bool("skip", true) + traversal);
}

Result<std::vector<VsphereObject>> VsphereSession::retrieve(std::string_view filter, Deadline deadline) {
  ASSIGN_OR_RETURN(const VsphereRoots now, roots(deadline));
  const std::string arguments = soap::wrap("specSet", "", filter) +
                                soap::wrap("options", "", soap::tag_number("maxObjects", kMaxObjectsAtOnce));
  ASSIGN_OR_RETURN(Element reply,
                   call("RetrievePropertiesEx", now.property_collector, arguments, Effect::kReads, deadline));
  std::vector<VsphereObject> objects;
  while (const Element* result = reply.find("returnval")) {
    for (const Element* content : result->all("objects"))
      objects.push_back(decode_object(*content, "propSet", "val"));
    const std::string token = result->text_at("token");
    if (token.empty()) break;
    // A page is handed out once: after a cut the whole is read again, by the caller.
    ASSIGN_OR_RETURN(reply, call("ContinueRetrievePropertiesEx", now.property_collector,
                                 soap::tag("token", token), Effect::kChanges, deadline));
  }
  return objects;
}

Result<VsphereObject> VsphereSession::read(const MoRef& object, const std::vector<std::string>& properties,
                                           Deadline deadline) {
  ASSIGN_OR_RETURN(std::vector<VsphereObject> objects, retrieve(filter_of(object, properties), deadline));
  if (objects.size() != 1)
    return fail(ErrorCode::kNotFound, "read {} '{}': there is none", object.type, object.value);
  return std::move(objects.front());
}

Result<std::vector<VsphereObject>> VsphereSession::read_all(const std::string& type,
                                                            const std::vector<std::string>& properties,
                                                            Deadline deadline) {
  for (int attempt = 1;; ++attempt) {
    ASSIGN_OR_RETURN(const std::string filter, filter_of_all(type, properties, deadline));
    auto objects = retrieve(filter, deadline);
    const bool may_repeat = attempt < 3 && !base::has_passed(deadline);
    // The view ended with the session that made it, or the pages with their connection.
    if (!objects && may_repeat &&
        (objects.error().code() == ErrorCode::kNotFound || is_lost(objects.error()))) {
      base::MutexLock lock(mutex_);
      if (login_) login_->views.erase(type);
      continue;
    }
    return objects;
  }
}

// ---- tasks ----

Result<std::optional<VsphereSession::TaskEnd>> VsphereSession::look_at_task(const MoRef& task,
                                                                            Deadline deadline) {
  auto object = read(task, {"info.state", "info.error", "info.result", "info.name"}, deadline);
  if (!object && object.error().code() == ErrorCode::kNotFound) {
    return TaskEnd(fail(ErrorCode::kUnavailable, "task '{}': the server does not know any more how it ended",
                        task.value));
  }
  if (!object) return std::unexpected(std::move(object).error());
  const std::string state = object->text("info.state");
  if (state == "error") {
    const Element* error = object->find("info.error");
    const std::string name = object->text("info.name");
    return TaskEnd(std::unexpected(
        soap::to_error(error == nullptr ? soap::Fault{} : soap::decode_localized_fault(*error),
                       name.empty() ? "task" : name)));
  }
  if (state == "success") {
    const Element* result = object->find("info.result");
    return TaskEnd(result == nullptr ? Element{} : *result);
  }
  if (state != "queued" && state != "running")
    return fail(ErrorCode::kCorrupt, "task '{}': its state is '{}'", task.value, state);
  return std::nullopt;
}

Result<void> VsphereSession::await_change(const MoRef& task, Deadline deadline) {
  ASSIGN_OR_RETURN(const auto updates,
                   VsphereUpdates::open(*this, filter_of(task, {"info.state"}), deadline));
  while (!base::has_passed(deadline)) {
    const auto left = std::chrono::ceil<std::chrono::seconds>(deadline - base::Clock::now());
    ASSIGN_OR_RETURN(const auto changes, updates->next(std::clamp(left, std::chrono::seconds(1), kTaskWait)));
    if (changes.empty()) return {};
    for (const VsphereUpdate& change : changes) {
      const std::string state = change.object.text("info.state");
      if (change.kind == VsphereUpdate::Kind::kLeave || state == "success" || state == "error") return {};
    }
  }
  return {};
}

Result<VsphereSession::TaskEnd> VsphereSession::await_end(const MoRef& task, Deadline deadline) {
  base::Clock::duration pause_time = kFirstPause;
  while (true) {
    auto seen = look_at_task(task, std::min(deadline, base::deadline_in(kVsphereCallTime)));
    if (seen && *seen) return std::move(**seen);
    // Whatever goes wrong with looking, the task goes on; only a server that is another one cannot say.
    if (!seen && seen.error().code() == ErrorCode::kDenied) return std::unexpected(std::move(seen).error());
    if (base::has_passed(deadline)) {
      return fail(ErrorCode::kTimeout, "task '{}': {}", task.value,
                  seen ? "it still runs" : seen.error().message());
    }
    if (seen && await_change(task, deadline)) continue;
    if (!pause(std::min<base::Clock::duration>(pause_time, deadline - base::Clock::now())))
      return fail(ErrorCode::kUnavailable, "task '{}': stopped", task.value);
    pause_time = std::min<base::Clock::duration>(pause_time * 2, kLongestPause);
  }
}

Result<Element> VsphereSession::wait_for_task(const MoRef& task, Deadline deadline) {
  ASSIGN_OR_RETURN(TaskEnd end, await_end(task, deadline));
  return end;
}

Result<Element> VsphereSession::run_task(std::string_view method, const MoRef& self,
                                         std::string_view arguments, Deadline deadline) {
  ASSIGN_OR_RETURN(const Element reply, call(method, self, arguments, Effect::kChanges,
                                             std::min(deadline, base::deadline_in(kVsphereCallTime))));
  const Element* task = reply.find("returnval");
  if (task == nullptr) return fail(ErrorCode::kCorrupt, "{}: the server names no task", method);
  return wait_for_task(task->ref(), deadline);
}

Result<void> VsphereSession::wait_for_recent_tasks(const MoRef& owner, std::string_view method,
                                                   Deadline deadline) {
  ASSIGN_OR_RETURN(const VsphereObject object, read(owner, {"recentTask"}, deadline));
  const Element* tasks = object.find("recentTask");
  if (tasks == nullptr) return {};
  for (const Element& task : tasks->children) {
    auto seen = read(task.ref(), {"info.name", "info.state"}, deadline);
    if (!seen && seen.error().code() == ErrorCode::kNotFound) continue;
    if (!seen) return std::unexpected(std::move(seen).error());
    const std::string state = seen->text("info.state");
    if (without_task(seen->text("info.name")) != without_task(method)) continue;
    if (state != "queued" && state != "running") continue;
    RETURN_IF_ERROR(await_end(task.ref(), deadline));  // how it ended, the caller looks at himself
  }
  return {};
}

// ---- updates ----

Result<std::unique_ptr<VsphereUpdates>> VsphereUpdates::open(VsphereSession& session, std::string_view filter,
                                                             Deadline deadline) {
  ASSIGN_OR_RETURN(const VsphereRoots roots, session.roots(deadline));
  ASSIGN_OR_RETURN(const Element made, session.call("CreatePropertyCollector", roots.property_collector, "",
                                                    VsphereSession::Effect::kReads, deadline));
  const Element* collector = made.find("returnval");
  if (collector == nullptr) return fail(ErrorCode::kCorrupt, "CreatePropertyCollector: no collector");
  std::unique_ptr<VsphereUpdates> updates(new VsphereUpdates(session, collector->ref()));
  const std::string arguments = soap::wrap("spec", "", filter) + soap::tag_bool("partialUpdates", false);
  RETURN_IF_ERROR(session.call("CreateFilter", updates->collector_, arguments,
                               VsphereSession::Effect::kChanges, deadline));
  return updates;
}

VsphereUpdates::~VsphereUpdates() {
  constexpr std::chrono::seconds kCloseTime{5};
  (void)session_.call("DestroyPropertyCollector", collector_, "", VsphereSession::Effect::kChanges,
                      base::deadline_in(kCloseTime));
}

Result<std::vector<VsphereUpdate>> VsphereUpdates::next(std::chrono::seconds max_wait) {
  const std::string arguments =
      soap::tag("version", version_) +
      soap::wrap("options", "", soap::tag_number("maxWaitSeconds", max_wait.count()));
  // Asking with an old version again is safe: it tells what has changed since that one.
  ASSIGN_OR_RETURN(const Element reply,
                   session_.call("WaitForUpdatesEx", collector_, arguments, VsphereSession::Effect::kReads,
                                 base::deadline_in(max_wait + kWaitSlack)));
  std::vector<VsphereUpdate> updates;
  const Element* set = reply.find("returnval");
  if (set == nullptr) return updates;
  version_ = set->text_at("version");
  for (const Element* filter : set->all("filterSet")) {
    for (const Element* object : filter->all("objectSet")) {
      const std::string kind = object->text_at("kind");
      VsphereUpdate update{.object = decode_object(*object, "changeSet", "val")};
      if (kind == "enter") update.kind = VsphereUpdate::Kind::kEnter;
      if (kind == "leave") update.kind = VsphereUpdate::Kind::kLeave;
      updates.push_back(std::move(update));
    }
  }
  return updates;
}

}  // namespace vdvs::esx
