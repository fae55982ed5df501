// One request on its way through the service: what is found out step by step, and the operation at the end.
// The order of the steps is what clients see when two things are wrong at once; request_pipeline.h says it.
#pragma once

#include <boost/json/value.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "esx-vmci/service/request_pipeline.h"

namespace vdvs::esx {

/// Thread: one. Lives for one request.
class RequestWork {
 public:
  RequestWork(const ServiceParts& parts, const Vm& vm, const Request& request)
      : parts_(parts), vm_(vm), request_(request) {}

  base::Result<boost::json::value> run();

 private:
  /// A volume that was named, and the datastore it is on.
  struct Target {
    VolumeName name;
    Datastore datastore;
    /// Whose row of rights counts: the datastore's, but for a short name the one of the group's default.
    std::string rights_url;
  };

  // The steps (request_work.cc).
  base::Result<boost::json::value> run_without_group(std::optional<Command> command,
                                                     const base::Error& error);
  base::Result<void> find_datastores();
  base::Result<boost::json::value> list();
  base::Result<boost::json::value> attached();
  base::Result<Datastore> find_datastore(const VolumeName& name,
                                         const std::optional<Datastore>& short_names) const;
  base::Result<void> authorize(const Target& target, Access access);
  base::Result<boost::json::value> dispatch(std::optional<Command> command, const Target& target);
  base::Result<boost::json::value> detach_own(const VolumeName& name);

  // The operations (request_operations.cc).
  base::Result<boost::json::value> create(const Target& target);
  base::Result<boost::json::value> clone(const Target& target);
  base::Result<boost::json::value> remove(const Target& target);
  base::Result<boost::json::value> attach(const Target& target);
  base::Result<boost::json::value> detach(const Target& target);
  base::Result<boost::json::value> get(const Target& target);
  base::Result<boost::json::value> set_init(const Target& target);
  base::Result<boost::json::value> reset(const Target& target);
  base::Result<void> refuse_existing(const Target& target);
  base::Result<void> check_policy(const Target& target) const;
  base::Result<Target> find_clone_source(const Target& target, const std::string& text);
  base::Result<QuotaReservation> reserve(const Target& target, std::uint64_t size_bytes);
  /// The room is kept where the disk is there, and given back where it is not.
  static base::Result<boost::json::value> settle_reservation(const Place& place,
                                                             QuotaReservation& reservation,
                                                             base::Result<void> made);

  /// The group's disks on a datastore; nullptr where it has no folder there and none shall be made.
  base::Result<DiskStore*> store_on(const Datastore& datastore, bool make) const;
  /// Errors: kNotFound where the group has nothing there.
  base::Result<Place> place_of(const Target& target) const;

  const ServiceParts& parts_;
  const Vm& vm_;
  const Request& request_;
  VmGroup group_;
  std::vector<Datastore> datastores_;
  std::optional<Datastore>
      default_;  ///< Where short names live; nullopt where the group's is not known here.
  Datastore vm_datastore_;
};

/// The predecessor's text of a datastore that is not known. `default_label`: "Default datastore", or where a
/// clone's source is named "Default datastore_url".
base::Error unknown_datastore(std::string_view name, const std::vector<Datastore>& known,
                              std::string_view default_label, std::string_view default_text);

}  // namespace vdvs::esx
