#include "cli/vdvs_arguments.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <sstream>

namespace vdvs::cli {
namespace {

constexpr int kMaxDays = 36500;

/// Every word and flag, bound to its place.
class CommandLine {
 public:
  CommandLine() {
    app_.set_version_flag("--version", std::string("vdvs " VDVS_VERSION), "Print the version and exit");
    app_.set_help_flag("-h,--help", "Print this help and exit");
    app_.require_subcommand(1);
    add_certificates();
    add_volumes();
  }

  VdvsArguments parse(std::span<const std::string> words) {
    VdvsArguments result;
    std::vector<std::string> reversed(words.rbegin(), words.rend());  // as CLI11 takes them
    try {
      app_.parse(std::move(reversed));
    } catch (const CLI::ParseError& error) {
      std::ostringstream out;
      std::ostringstream err;
      const bool is_mistake = app_.exit(error, out, err) != 0;
      result.exit_status = is_mistake ? kVdvsUsage : kVdvsOk;
      result.message = is_mistake ? err.str() : out.str();
      return result;
    }
    if (is_detach_) {
      result.command = detach_;
    } else {
      if (days_ != 0) cert_.wish.valid_for = std::chrono::days(days_);
      if (cert_.wish.name.empty() && !cert_.wish.hosts.empty()) cert_.wish.name = cert_.wish.hosts.front();
      result.command = cert_;
    }
    return result;
  }

 private:
  CLI::App* add_kind(CLI::App* cert, const char* word, const char* help, CertCommand::Kind kind) {
    CLI::App* app = cert->add_subcommand(word, help);
    app->add_option("--folder", cert_.folder, "Where the files are")->capture_default_str();
    app->add_option("--days", days_, "How long it is valid (an authority: 3650, others: 825)")
        ->check(CLI::Range(1, kMaxDays));
    app->callback([this, kind] { cert_.kind = kind; });
    return app;
  }

  void add_certificates() {
    CLI::App* cert = app_.add_subcommand("cert", "Makes the certificates of the tcp transport");
    cert->require_subcommand(1);
    CLI::App* authority = add_kind(cert, "authority", "An authority of your own: ca.crt and ca.key",
                                   CertCommand::Kind::kAuthority);
    authority->add_option("--name", authority_name_, "What it is called")->capture_default_str();
    authority->preparse_callback([this](std::size_t) { is_authority_ = true; });
    CLI::App* service = add_kind(cert, "service", "For the service: service.crt and service.key",
                                 CertCommand::Kind::kService);
    service->add_option("--host", cert_.wish.hosts, "A name or address by which guests reach it; repeatable")
        ->required();
    service->add_option("--name", cert_.wish.name, "What it is called (the first host)");
    CLI::App* guest =
        add_kind(cert, "guest", "For one VM: guest-NAME.crt and guest-NAME.key", CertCommand::Kind::kGuest);
    guest->add_option("name", cert_.wish.name, "The VM's name or uuid, as the hypervisor has it")->required();
    app_.final_callback([this] {
      if (is_authority_) cert_.wish.name = authority_name_;
    });
  }

  void add_volumes() {
    CLI::App* volume = app_.add_subcommand("volume", "Volumes, seen from the service");
    volume->require_subcommand(1);
    CLI::App* detach = volume->add_subcommand("detach", "Takes a volume's disk out of whichever VM has it");
    detach->add_flag("--force", is_forced_, "It is meant: what the VM has not yet written is lost")
        ->required();
    detach->add_option("volume", detach_.volume, "VOLUME or VOLUME@DATASTORE")->required();
    detach->add_option("--vmgroup", detach_.vmgroup,
                       "Whose volume it is, where several have one of that name");
    detach->add_option("--socket", detach_.socket, "The admin socket of the service, which then must run");
    detach->add_option("--config", detach_.config_file,
                       "The service's settings, where it is not the usual file");
    detach->callback([this] { is_detach_ = true; });
  }

  CLI::App app_{"Certificates and repairs, for the operator of vDVS.", "vdvs"};
  CertCommand cert_;
  DetachCommand detach_;
  std::string authority_name_ = "vdvs authority";
  int days_ = 0;
  bool is_authority_ = false;
  bool is_detach_ = false;
  bool is_forced_ = false;
};

}  // namespace

VdvsArguments parse_vdvs_arguments(std::span<const std::string> words) { return CommandLine().parse(words); }

}  // namespace vdvs::cli
