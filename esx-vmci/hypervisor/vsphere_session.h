// A session with vCenter or an ESXi host: logs in when it is needed and again when the server has forgotten
// it, keeps connections, waits for tasks, reads properties and the files of datastores.
//
// What happens when a connection is cut: a call that only reads is made again. A call that changes something
// is not, because nobody knows whether it was heard; its error is kUnavailable, and the caller looks at what
// is. A task outlives the connection and the session that began it, so waiting for one goes on after a cut.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/deadline.h"
#include "base/error.h"
#include "base/mutex.h"
#include "esx-vmci/hypervisor/soap.h"
#include "esx-vmci/hypervisor/soap_https.h"
#include "esx-vmci/hypervisor/vsphere_config.h"

namespace vdvs::esx {

/// How long one call may take; tasks have deadlines of their own.
inline constexpr std::chrono::seconds kVsphereCallTime{30};

/// The objects that everything begins at.
struct VsphereRoots {
  soap::MoRef root_folder, property_collector, view_manager, search_index, disk_manager, file_manager,
      task_manager, session_manager;
  bool is_vcenter = false;  ///< Otherwise one ESXi host.
  std::string about;        ///< "VMware vCenter Server 7.0.3 build-..."
};

/// A managed object with the properties that were asked for and that it has.
struct VsphereObject {
  soap::MoRef ref;
  std::map<std::string, soap::Element> properties;

  const soap::Element* find(const std::string& property) const;
  std::string text(const std::string& property) const;
};

class VsphereSession {
 public:
  /// Does not connect. Errors: kInvalid: the thumbprint, the authority's file.
  static base::Result<std::unique_ptr<VsphereSession>> make(VsphereConfig config);
  ~VsphereSession();

  const VsphereConfig& config() const { return config_; }
  /// What runs fails with kUnavailable, and all that comes. Thread: any.
  void stop() EXCLUDES(mutex_);
  /// Waits for `time`, or less where the session is stopped: then false.
  bool pause(base::Clock::duration time) EXCLUDES(mutex_);

  /// Logs in where that is not done.
  base::Result<VsphereRoots> roots(base::Deadline deadline);

  enum class Effect { kReads, kChanges };
  /// The reply's element, with its `returnval`s. Errors: the fault's (soap::to_error); those of HttpsClient.
  base::Result<soap::Element> call(std::string_view method, const soap::MoRef& self,
                                   std::string_view arguments, Effect effect, base::Deadline deadline);
  /// The same for the policy service of vCenter.
  base::Result<soap::Element> call_policies(std::string_view method, const soap::MoRef& self,
                                            std::string_view arguments, base::Deadline deadline);

  /// Begins a task and waits for it. Its `info.result`; an empty element where it has none.
  /// Errors: the task's fault; kUnavailable: it is not known whether it was begun, or how it ended: look;
  /// kTimeout: it goes on.
  base::Result<soap::Element> run_task(std::string_view method, const soap::MoRef& self,
                                       std::string_view arguments, base::Deadline deadline);
  base::Result<soap::Element> wait_for_task(const soap::MoRef& task, base::Deadline deadline);
  /// After an answer was lost: waits until no task of that method runs any more among `owner`'s `recentTask`.
  base::Result<void> wait_for_recent_tasks(const soap::MoRef& owner, std::string_view method,
                                           base::Deadline deadline);

  /// Errors: kNotFound where there is no such object (any more).
  base::Result<VsphereObject> read(const soap::MoRef& object, const std::vector<std::string>& properties,
                                   base::Deadline deadline);
  /// Every object of that type that the user may see.
  base::Result<std::vector<VsphereObject>> read_all(const std::string& type,
                                                    const std::vector<std::string>& properties,
                                                    base::Deadline deadline);
  /// The specification of `read_all`, for a filter. Made for this login.
  base::Result<std::string> filter_of_all(const std::string& type, const std::vector<std::string>& properties,
                                          base::Deadline deadline);

  /// A file of a datastore through the server's /folder; nullopt where there is none, or no such folder.
  base::Result<std::optional<std::string>> get_file(std::string_view datacenter, std::string_view datastore,
                                                    std::string_view path, std::size_t max_bytes,
                                                    base::Deadline deadline);
  base::Result<void> put_file(std::string_view datacenter, std::string_view datastore, std::string_view path,
                              std::string_view bytes, base::Deadline deadline);

 private:
  struct Login {
    std::string cookie;
    VsphereRoots roots;
    std::uint64_t number = 0;
    std::map<std::string, soap::MoRef> views;  ///< By type: container views end with the session.
  };

  VsphereSession(VsphereConfig config, std::unique_ptr<soap::HttpsClient> client);

  base::Result<Login> login(base::Deadline deadline) EXCLUDES(mutex_, login_mutex_);
  base::Result<Login> make_login(base::Deadline deadline);
  /// The server does not know it any more.
  void forget(std::uint64_t number) EXCLUDES(mutex_);
  base::Result<soap::MoRef> view_of(const std::string& type, base::Deadline deadline) EXCLUDES(mutex_);

  struct Sent {
    soap::Reply reply;
    std::string cookie;  ///< What the reply sets.
  };
  base::Result<Sent> send(soap::Service service, std::string_view method, const soap::MoRef& self,
                          std::string_view arguments, const std::string& cookie, Effect effect,
                          base::Deadline deadline);
  base::Result<soap::Element> call_service(soap::Service service, std::string_view method,
                                           const soap::MoRef& self, std::string_view arguments, Effect effect,
                                           base::Deadline deadline);
  base::Result<soap::HttpReply> ask_file(const soap::HttpRequest& request, base::Deadline deadline);
  /// How a task ended: its result, or its fault.
  using TaskEnd = base::Result<soap::Element>;
  /// nullopt while it goes on. The outer error: it could not be asked for.
  base::Result<std::optional<TaskEnd>> look_at_task(const soap::MoRef& task, base::Deadline deadline);
  base::Result<TaskEnd> await_end(const soap::MoRef& task, base::Deadline deadline);
  base::Result<void> await_change(const soap::MoRef& task, base::Deadline deadline);
  base::Result<std::vector<VsphereObject>> retrieve(std::string_view filter, base::Deadline deadline);

  const VsphereConfig config_;
  const std::unique_ptr<soap::HttpsClient> client_;
  base::Mutex login_mutex_;  ///< Held while one thread logs in for all; outside mutex_.
  base::Mutex mutex_;        ///< A leaf.
  base::ConditionVariable stopped_;
  bool is_stopped_ GUARDED_BY(mutex_) = false;
  std::optional<Login> login_ GUARDED_BY(mutex_);
  std::uint64_t logins_ GUARDED_BY(mutex_) = 0;
};

/// What changed of an object that a filter selects.
struct VsphereUpdate {
  enum class Kind { kEnter, kModify, kLeave };
  Kind kind = Kind::kModify;
  VsphereObject object;
};

/// A property collector of its own: tells the present state first, and then every change. Bound to one login:
/// after any error of `next` it is of no more use.
class VsphereUpdates {
 public:
  static base::Result<std::unique_ptr<VsphereUpdates>> open(VsphereSession& session, std::string_view filter,
                                                            base::Deadline deadline);
  ~VsphereUpdates();
  VsphereUpdates(const VsphereUpdates&) = delete;
  VsphereUpdates& operator=(const VsphereUpdates&) = delete;

  /// Waits for at most `max_wait`; empty where nothing has changed.
  base::Result<std::vector<VsphereUpdate>> next(std::chrono::seconds max_wait);

 private:
  VsphereUpdates(VsphereSession& session, soap::MoRef collector)
      : session_(session), collector_(std::move(collector)) {}

  VsphereSession& session_;
  const soap::MoRef collector_;
  std::string version_;
};

/// The specification of one object for a filter or a retrieval.
std::string filter_of(const soap::MoRef& object, const std::vector<std::string>& properties);

}  // namespace vdvs::esx
