// Every place in this folder at which a crash test can make the program fail or die (base/fault.h). Each lies
// between two steps that change the world; a new one is added here, and the crash tests walk through it.
#pragma once

#include <array>
#include <string_view>

namespace vdvs::esx {

inline constexpr std::string_view kFaultCreateIntent = "create.intent.after";
inline constexpr std::string_view kFaultCreateSidecar = "create.sidecar.after";
inline constexpr std::string_view kFaultCreateExtent = "create.extent.after";
inline constexpr std::string_view kFaultCloneCopy = "clone.copy.after";
inline constexpr std::string_view kFaultCreateCommit = "create.commit.after";
inline constexpr std::string_view kFaultRemoveMark = "remove.mark.after";
inline constexpr std::string_view kFaultRemoveExtent = "remove.extent.after";
inline constexpr std::string_view kFaultRemoveSidecar = "remove.sidecar.after";
inline constexpr std::string_view kFaultTakeOverDetach = "takeover.detach.after";
inline constexpr std::string_view kFaultAttachRecord = "attach.record.after";
inline constexpr std::string_view kFaultAttachDevice = "attach.device.after";
inline constexpr std::string_view kFaultDetachDevice = "detach.device.after";
inline constexpr std::string_view kFaultResetExtent = "reset.extent.after";

inline constexpr std::array kFaultPoints = {
    kFaultCreateIntent, kFaultCreateSidecar, kFaultCreateExtent, kFaultCloneCopy,
    kFaultCreateCommit, kFaultRemoveMark,    kFaultRemoveExtent, kFaultRemoveSidecar,
    kFaultAttachRecord, kFaultAttachDevice,  kFaultDetachDevice, kFaultResetExtent,
};
/// Passed only where one service has several VMs, of which one is off.
inline constexpr std::array kTakeOverFaultPoints = {kFaultTakeOverDetach};

}  // namespace vdvs::esx
