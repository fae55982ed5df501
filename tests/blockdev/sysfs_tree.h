// A sysfs tree made by a test, with the folders and relative links that the kernel makes for SCSI disks
// behind PCI controllers, and nothing else. Written from the shape of such trees, not yet compared with a guest that has a
// PVSCSI controller.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "blockdev/device_watcher.h"
#include "tests/support/temporary_folder.h"

namespace vdvs::blockdev {

struct FakeScsiDisk {
  std::string controller{};  ///< What add_controller returned.
  unsigned host = 2;
  unsigned channel = 0;
  unsigned target = 0;
  unsigned lun = 0;
  std::string name = "sda";
  unsigned minor = 0;
  std::uint64_t diskseq = 9;
  std::uint64_t sectors = 2048;
  std::string serial{};  ///< Page 0x80; empty: no such page.
  std::string naa{};     ///< 32 hex digits for page 0x83 and wwid; empty: none.
};

class SysfsTree {
 public:
  SysfsTree() {
    for (const char* name :
         {"sys/block", "sys/dev/block", "sys/bus/pci/devices", "sys/bus/pci/slots", "dev", "proc"}) {
      std::filesystem::create_directories(root() + "/" + name);
    }
  }

  std::string root() const { return folder_.path(); }

  WatcherOptions options() const {
    return {.sysfs_root = root() + "/sys",
            .dev_root = root() + "/dev",
            .proc_root = root() + "/proc",
            .udev_control = root() + "/none"};
  }

  /// A controller behind a bridge on bus 0, as VMware has them: bridge "0000:00:15.0", bus "0000:03".
  std::string add_controller_behind(const std::string& bridge, const std::string& bus) {
    const std::string path = kPciRoot + bridge + "/" + bus + ":00.0";
    make_folder(path);
    make_folder(kPciRoot + bridge + "/pci_bus/" + bus);
    link("bus/pci/devices/" + bridge, "../../../" + kPciRoot + bridge);
    link("bus/pci/devices/" + bus + ":00.0", "../../../" + path);
    return path;
  }

  /// A controller on bus 0 itself: "0000:00:10.0".
  std::string add_root_controller(const std::string& device) {
    make_folder(kPciRoot + device);
    link("bus/pci/devices/" + device, "../../../" + kPciRoot + device);
    return kPciRoot + device;
  }

  void add_slot(unsigned slot, const std::string& address) {
    make_folder("bus/pci/slots/" + std::to_string(slot));
    write("bus/pci/slots/" + std::to_string(slot) + "/address", address + "\n");
  }

  /// Returns the folder of the SCSI device, below sys/.
  std::string add_disk(const FakeScsiDisk& disk) {
    const std::string place = fmt::format("{}:{}:{}:{}", disk.host, disk.channel, disk.target, disk.lun);
    const std::string device = fmt::format("{}/host{}/target{}:{}:{}/{}", disk.controller, disk.host,
                                           disk.host, disk.channel, disk.target, place);
    const std::string block = device + "/block/" + disk.name;
    make_folder(block);
    write(block + "/dev", fmt::format("8:{}\n", disk.minor));
    write(block + "/size", fmt::format("{}\n", disk.sectors));
    write(block + "/ro", "0\n");
    write(block + "/diskseq", fmt::format("{}\n", disk.diskseq));
    link(block + "/device", "../../../" + place);
    if (!disk.serial.empty()) write(device + "/vpd_pg80", page(0x80, disk.serial));
    if (!disk.naa.empty()) {
      write(device + "/vpd_pg83", page(0x83, std::string("\x01\x03\x00\x10", 4) + from_hex(disk.naa)));
      write(device + "/wwid", "naa." + disk.naa + "\n");
    }
    link(fmt::format("dev/block/8:{}", disk.minor), "../../" + block);
    link("block/" + disk.name, "../" + block);  // Last, since this is where the look begins.
    return device;
  }

  void remove_disk(const FakeScsiDisk& disk, const std::string& device_folder) {
    std::filesystem::remove(root() + "/sys/block/" + disk.name);
    std::filesystem::remove(fmt::format("{}/sys/dev/block/8:{}", root(), disk.minor));
    std::filesystem::remove_all(root() + "/sys/" + device_folder);
  }

  void make_folder(const std::string& path) { std::filesystem::create_directories(root() + "/sys/" + path); }
  void write(const std::string& path, std::string_view content) {
    if (auto status = base::write_file(root() + "/sys/" + path, content); !status) std::abort();
  }
  void link(const std::string& path, const std::string& to) {
    std::filesystem::remove(root() + "/sys/" + path);
    std::filesystem::create_symlink(to, root() + "/sys/" + path);
  }

  static std::string page(unsigned char code, std::string_view body) {
    std::string text = {'\0', static_cast<char>(code), static_cast<char>(body.size() >> 8),
                        static_cast<char>(body.size() & 0xff)};
    return text.append(body);
  }

  static std::string from_hex(std::string_view digits) {
    std::string bytes;
    for (std::size_t i = 0; i + 1 < digits.size(); i += 2) {
      bytes += static_cast<char>(std::stoi(std::string(digits.substr(i, 2)), nullptr, 16));
    }
    return bytes;
  }

 private:
  inline static const std::string kPciRoot = "devices/pci0000:00/";

  tests::TemporaryFolder folder_;
};

}  // namespace vdvs::blockdev
