// The session with a vCenter: logins, trust, cut connections, tasks and files.
#include <atomic>
#include <thread>

#include "esx-vmci/hypervisor/vsphere_session.h"
#include "tests/vsphere/vsphere_world.h"

namespace vdvs::esx::testing {
namespace {

using ::testing::HasSubstr;
using Effect = VsphereSession::Effect;

class Session : public ::testing::Test {
 protected:
  VsphereWorld world_;
  VsphereSession& session() { return world_.session(); }

  base::Result<std::vector<VsphereObject>> read_vms() {
    return session().read_all("VirtualMachine", {"name"}, soon_enough());
  }

  /// The arguments of CreateVirtualDisk_Task for a disk in the datastore's root.
  std::string new_disk(const std::string& name) {
    return soap::tag("name", "[LocalDS_0] " + name + ".vmdk") + soap::tag("datacenter", world_.datacenter()) +
           soap::wrap("spec", "FileBackedVirtualDiskSpec",
                      soap::tag("diskType", "thin") + soap::tag("adapterType", "busLogic") +
                          soap::tag_number("capacityKb", 1024));
  }
  base::Result<soap::Element> make_disk(const std::string& name, base::Deadline deadline = soon_enough()) {
    const std::string arguments = new_disk(name);
    auto roots = session().roots(soon_enough());
    if (!roots) return std::unexpected(roots.error());
    return session().run_task("CreateVirtualDisk_Task", roots->disk_manager, arguments, deadline);
  }
  bool has_disk(const std::string& name) {
    return world_.direct()
        .get_file("DC0", "LocalDS_0", name + ".vmdk", 4096, soon_enough())
        .value()
        .has_value();
  }
};

// ---- logins ----

TEST_F(Session, IsOneForAllCallsAndAllThreads) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) threads.emplace_back([&] { EXPECT_OK(read_vms()); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_OK(read_vms());
  EXPECT_EQ(world_.fault("count Login"), "1");
}

TEST_F(Session, IsMadeAgainWhereTheServerHasForgottenIt) {
  ASSERT_OK(read_vms());
  world_.fault("expire");
  EXPECT_OK(read_vms());
  EXPECT_EQ(world_.fault("count Login"), "2");
  world_.fault("expire");
  EXPECT_OK(make_disk("a"));  // changes too: nothing was done yet
  EXPECT_TRUE(has_disk("a"));
}

TEST_F(Session, TakesNoUnreadPropertyForOneThatIsNotSet) {
  const soap::MoRef vm = world_.vm_ref("web-1");
  const std::vector<std::string> properties = {"name", "config.hardware.device"};
  ASSERT_OK(session().read(vm, properties, soon_enough()));
  world_.fault("expire");  // the server then answers, with nothing but missing properties
  auto again = session().read(vm, properties, soon_enough());
  ASSERT_OK(again);
  EXPECT_EQ(again->text("name"), "web-1");
  EXPECT_EQ(world_.fault("count Login"), "2");
  world_.fault("hide RetrievePropertiesEx 1");
  auto hidden = session().read(vm, properties, soon_enough());
  EXPECT_EQ(code_of(hidden), "E_DENIED");
  EXPECT_THAT(message_of(hidden), HasSubstr("'config.hardware.device' of VirtualMachine '"));
}

TEST_F(Session, ReadsAllPagesOfALongAnswer) {
  auto whole = read_vms();
  ASSERT_OK(whole);
  world_.fault("pages RetrievePropertiesEx 1");
  auto paged = read_vms();
  ASSERT_OK(paged);
  EXPECT_EQ(world_.fault("count ContinueRetrievePropertiesEx"), "1");
  EXPECT_EQ(paged->size(), whole->size());
  world_.fault("pages RetrievePropertiesEx 1");
  world_.fault("cut-before ContinueRetrievePropertiesEx 1");  // half an inventory is none
  EXPECT_EQ(read_vms().value().size(), whole->size());
}

TEST_F(Session, GoesOnWithFilesWhereItWasForgotten) {
  ASSERT_OK(session().put_file("DC0", "LocalDS_0", "note", "one", soon_enough()));
  world_.fault("expire");
  auto text = session().get_file("DC0", "LocalDS_0", "note", 4096, soon_enough());
  ASSERT_OK(text);
  EXPECT_EQ(*text, "one");
}

TEST_F(Session, SaysThatThePasswordIsWrong) {
  VsphereConfig config = world_.config();
  config.password = "wrong";
  auto refused = VsphereSession::make(config).value()->roots(soon_enough());
  EXPECT_EQ(code_of(refused), "E_DENIED");
  EXPECT_THAT(message_of(refused), HasSubstr("log in to '127.0.0.1' as 'user': "));
  EXPECT_THAT(refused.error().text(), HasSubstr("correct the user or the password"));
}

TEST_F(Session, IsEndedAtItsEnd) {
  auto another = world_.another_session();
  ASSERT_OK(another->roots(soon_enough()));
  another.reset();
  EXPECT_EQ(world_.fault("count Logout"), "1");
}

// ---- trust ----

TEST_F(Session, TellsAStrangerNothing) {
  VsphereConfig config = world_.config();
  config.server.thumbprint = world_.thumbprint("b");
  auto refused = VsphereSession::make(config).value()->roots(soon_enough());
  EXPECT_EQ(code_of(refused), "E_DENIED");
  EXPECT_THAT(message_of(refused), HasSubstr(world_.thumbprint("a") + ", not " + world_.thumbprint("b")));
  EXPECT_EQ(world_.fault("count RetrieveServiceContent"), "0");
}

TEST_F(Session, EndsItsTrustWhenTheCertificateChanges) {
  ASSERT_OK(read_vms());
  world_.fault("certificate b");
  world_.fault("drop");
  EXPECT_EQ(code_of(read_vms()), "E_DENIED");
  world_.fault("certificate a");
  EXPECT_OK(read_vms());
}

TEST_F(Session, TrustsACertificateOfTheConfiguredAuthorityAlone) {
  VsphereConfig config = world_.config();
  config.server.thumbprint.clear();
  config.server.ca_file = world_.certificate_file("a");
  EXPECT_OK(VsphereSession::make(config).value()->roots(soon_enough()));
  config.server.host = "localhost";  // the certificate is for 127.0.0.1
  EXPECT_EQ(code_of(VsphereSession::make(config).value()->roots(soon_enough())), "E_DENIED");
  config.server.host = "127.0.0.1";
  config.server.ca_file = world_.certificate_file("b");
  EXPECT_EQ(code_of(VsphereSession::make(config).value()->roots(soon_enough())), "E_DENIED");
  config.server.ca_file.clear();  // the system's authorities
  EXPECT_EQ(code_of(VsphereSession::make(config).value()->roots(soon_enough())), "E_DENIED");
}

TEST_F(Session, AThumbprintMayBeSha1) {
  VsphereConfig config = world_.config();
  const std::string text =
      run({"openssl", "x509", "-in", world_.certificate_file("a"), "-noout", "-fingerprint", "-sha1"});
  config.server.thumbprint = text.substr(text.find('=') + 1, 59);
  EXPECT_OK(VsphereSession::make(config).value()->roots(soon_enough()));
}

// ---- cut connections ----

TEST_F(Session, ReadsAgainWhereTheConnectionWasCut) {
  ASSERT_OK(read_vms());
  for (const std::string cut : {"cut-before", "cut-after", "cut-inside"}) {
    world_.fault(cut + " RetrievePropertiesEx 1");
    EXPECT_OK(read_vms()) << cut;
  }
  world_.fault("drop");  // the connections that were kept
  EXPECT_OK(read_vms());
}

TEST_F(Session, GivesUpReadingAfterSomeCuts) {
  ASSERT_OK(read_vms());
  world_.fault("cut-before RetrievePropertiesEx 100");
  EXPECT_EQ(code_of(read_vms()), "E_UNAVAILABLE");
}

TEST_F(Session, NeverRepeatsAChangeOfWhichItHasNoAnswer) {
  world_.fault("cut-after CreateVirtualDisk_Task 1");
  EXPECT_EQ(code_of(make_disk("a")), "E_UNAVAILABLE");
  EXPECT_EQ(world_.fault("count CreateVirtualDisk_Task"), "1");
}

TEST_F(Session, KnowsAnAnswerFromGarbage) {
  ASSERT_OK(read_vms());
  world_.fault("garbage RetrievePropertiesEx 1");
  EXPECT_EQ(code_of(session().read(world_.datacenter(), {"name"}, soon_enough())), "E_CORRUPT");
  world_.fault("page RetrievePropertiesEx 1");
  EXPECT_EQ(code_of(session().read(world_.datacenter(), {"name"}, soon_enough())), "E_UNAVAILABLE");
  EXPECT_OK(read_vms());
}

TEST_F(Session, WaitsNoLongerThanItsDeadline) {
  ASSERT_OK(read_vms());
  world_.fault("stall RetrievePropertiesEx 1");
  auto late =
      session().read(world_.datacenter(), {"name"}, base::deadline_in(std::chrono::milliseconds(200)));
  EXPECT_EQ(code_of(late), "E_TIMEOUT");
}

TEST_F(Session, StopEndsWhatWaits) {
  ASSERT_OK(read_vms());
  const int before = std::stoi(world_.fault("count RetrievePropertiesEx"));
  world_.fault("stall RetrievePropertiesEx 1");
  base::Result<std::vector<VsphereObject>> ended;
  std::thread waiting([&] { ended = read_vms(); });
  world_.await_count("RetrievePropertiesEx", before + 1);
  session().stop();
  waiting.join();
  EXPECT_EQ(code_of(ended), "E_UNAVAILABLE");
  EXPECT_EQ(code_of(read_vms()), "E_UNAVAILABLE");
}

TEST_F(Session, ComesBackWithTheServer) {
  ASSERT_OK(read_vms());
  world_.fault("down");
  world_.fault("drop");
  EXPECT_EQ(code_of(read_vms()), "E_UNAVAILABLE");
  world_.fault("up");
  EXPECT_OK(read_vms());
}

// ---- tasks ----

TEST_F(Session, ATaskThatFailsGivesItsFault) {
  world_.simulator("fail CreateVirtualDisk_Task NoDiskSpace");
  auto failed = make_disk("a");
  EXPECT_EQ(code_of(failed), "E_NO_SPACE");
  EXPECT_THAT(message_of(failed), HasSubstr("CreateVirtualDisk_Task"));
  EXPECT_FALSE(has_disk("a"));
}

TEST_F(Session, ATaskOutlivesItsConnectionAndItsSession) {
  world_.simulator("hold CreateVirtualDisk_Task");
  base::Result<soap::Element> made;
  std::thread making([&] { made = make_disk("a"); });
  world_.await_held(1);
  world_.await_count("WaitForUpdatesEx", 2);  // the present state is known, and a change is waited for
  world_.fault("drop");
  world_.await_count("WaitForUpdatesEx", 3);  // the same question, over another connection
  world_.fault("expire");
  world_.fault("drop");
  // Once without a session, once with a new one that has no such collector, and twice with one of its own.
  world_.await_count("WaitForUpdatesEx", 7);
  world_.simulator("release");
  making.join();
  EXPECT_OK(made);
  EXPECT_TRUE(has_disk("a"));
  EXPECT_EQ(world_.fault("count CreateVirtualDisk_Task"), "1");
}

TEST_F(Session, ATaskIsWaitedForWhileTheServerIsAway) {
  world_.simulator("hold CreateVirtualDisk_Task");
  base::Result<soap::Element> made;
  std::thread making([&] { made = make_disk("a"); });
  world_.await_held(1);
  world_.await_count("WaitForUpdatesEx", 2);  // so that the answer with the task has come
  world_.fault("down");
  world_.fault("drop");
  world_.simulator("release");
  EXPECT_TRUE(soon([&] { return has_disk("a"); }));
  world_.fault("up");
  making.join();
  EXPECT_OK(made);
}

TEST_F(Session, ATaskThatGoesOnBeyondItsDeadlineIsATimeout) {
  ASSERT_OK(read_vms());
  world_.simulator("hold CreateVirtualDisk_Task");
  EXPECT_EQ(code_of(make_disk("a", base::deadline_in(std::chrono::milliseconds(300)))), "E_TIMEOUT");
  world_.simulator("release");
}

TEST_F(Session, AServerThatHasForgottenATaskDoesNotSayHowItEnded) {
  const soap::MoRef nobodys{"Task", "task-4711"};
  EXPECT_EQ(code_of(session().wait_for_task(nobodys, soon_enough())), "E_UNAVAILABLE");
}

TEST_F(Session, WaitsForTheTasksOfAnOwner) {
  world_.simulator("hold CreateVirtualDisk_Task");
  world_.fault("cut-after CreateVirtualDisk_Task 1");
  EXPECT_EQ(code_of(make_disk("a")), "E_UNAVAILABLE");
  world_.await_held(1);
  std::atomic<bool> is_over = false;
  std::thread waiting([&] {
    const VsphereRoots roots = session().roots(soon_enough()).value();
    EXPECT_OK(session().wait_for_recent_tasks(roots.task_manager, "CreateVirtualDisk_Task", soon_enough()));
    is_over = true;
  });
  world_.await_count("WaitForUpdatesEx", 2);
  EXPECT_FALSE(is_over);
  world_.simulator("release");
  waiting.join();
  EXPECT_TRUE(has_disk("a"));
}

// ---- files ----

TEST_F(Session, KeepsTheBytesAndTheNamesOfFiles) {
  const std::string bytes("\0\xff{}\r\n&<", 8);
  const std::string name = "a b&c+d%?#\xc3\xa9";
  ASSERT_OK(session().put_file("DC0", "LocalDS_0", name, bytes, soon_enough()));
  auto read = session().get_file("DC0", "LocalDS_0", name, 4096, soon_enough());
  ASSERT_OK(read);
  EXPECT_EQ(*read, bytes);
  EXPECT_EQ(session().get_file("DC0", "LocalDS_0", "nothing", 4096, soon_enough()).value(), std::nullopt);
}

TEST_F(Session, ReadsNoFileThatIsTooLong) {
  ASSERT_OK(session().put_file("DC0", "LocalDS_0", "long", std::string(5000, 'x'), soon_enough()));
  EXPECT_EQ(code_of(session().get_file("DC0", "LocalDS_0", "long", 4096, soon_enough())), "E_LIMIT");
}

}  // namespace
}  // namespace vdvs::esx::testing
