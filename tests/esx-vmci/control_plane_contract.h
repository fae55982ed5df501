// What every ControlPlane promises to a Docker host, as tests that each implementation runs: derive a World
// and instantiate the suite with it.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "esx-vmci/control_plane.h"
#include "tests/esx-vmci/support.h"

namespace vdvs::esx::testing {

/// Two hosts before one datastore, which is called "ds".
class ControlPlaneWorld {
 public:
  virtual ~ControlPlaneWorld() = default;
  virtual ControlPlane& one() = 0;  ///< As host "host-a" sees it.
  virtual ControlPlane& two() = 0;  ///< As "host-b" does.
};

inline std::vector<std::string> texts(const base::Result<std::vector<VolumeName>>& names) {
  std::vector<std::string> result;
  EXPECT_OK(names);
  if (names) {
    for (const VolumeName& name : *names) result.push_back(name.text());
  }
  return result;
}

template <typename World>
class ControlPlaneContract : public ::testing::Test {
 protected:
  World world_;
  ControlPlane& one() { return world_.one(); }
  ControlPlane& two() { return world_.two(); }
  void make(const std::string& name, const OptionMap& options = {{"size", "8mb"}}) {
    ASSERT_OK(one().create(name_of(name), options, {}));
  }
};

TYPED_TEST_SUITE_P(ControlPlaneContract);

TYPED_TEST_P(ControlPlaneContract, ShowsWhatWasCreated) {
  this->make("db", {{"size", "16mb"}, {"fstype", "xfs"}, {"access", "read-only"}});
  auto info = this->two().get(name_of("db"));
  ASSERT_OK(info);
  EXPECT_EQ(info->name.text(), "db@ds");
  EXPECT_EQ(info->size_bytes, 16u << 20);
  EXPECT_EQ(info->disk_uuid.size(), 32u);
  EXPECT_EQ(info->created_by, "host-a");
  EXPECT_EQ(info->options.at("fstype"), "xfs");
  EXPECT_EQ(info->options.at("access"), "read-only");
  EXPECT_EQ(info->options.at("size"), "16mb");
  EXPECT_EQ(info->options.at("diskformat"), "thin");
  EXPECT_EQ(info->init, InitState::kNew);
  EXPECT_FALSE(info->holder);
  EXPECT_FALSE(info->is_attached_here);
}

TYPED_TEST_P(ControlPlaneContract, ListsQualifiedNamesInOrder) {
  EXPECT_THAT(texts(this->one().list()), ::testing::IsEmpty());
  this->make("b");
  this->make("a@ds");
  this->make("ünï @x@DS");
  EXPECT_THAT(texts(this->one().list()), ::testing::ElementsAre("a@ds", "b@ds", "ünï @x@ds"));
  EXPECT_EQ(texts(this->two().list()), texts(this->one().list()));
}

TYPED_TEST_P(ControlPlaneContract, SaysThatAVolumeExistsWhateverItsOptions) {
  this->make("db");
  for (const OptionMap& options : {OptionMap{{"size", "8mb"}}, OptionMap{{"size", "9mb"}}}) {
    auto again = this->two().create(name_of("db"), options, {});
    EXPECT_EQ(code_of(again), "E_EXISTS");
    EXPECT_THAT(message_of(again), ::testing::HasSubstr("already exists"));
  }
  EXPECT_EQ(this->one().get(name_of("db"))->size_bytes, 8u << 20);
}

TYPED_TEST_P(ControlPlaneContract, SaysNotFoundForAVolumeThatIsNotThere) {
  EXPECT_EQ(code_of(this->one().get(name_of("none"))), "E_NOT_FOUND");
  EXPECT_THAT(message_of(this->one().get(name_of("none"))),
              ::testing::StartsWith("Volume none not found (file: "));
  EXPECT_EQ(code_of(this->one().attach(name_of("none"))), "E_NOT_FOUND");
  EXPECT_OK(this->one().detach(name_of("none")));
  EXPECT_OK(this->one().remove(name_of("none")));
}

TYPED_TEST_P(ControlPlaneContract, NamesTheKnownDatastoresForAnUnknownOne) {
  auto refused = this->one().create(name_of("db@other"), {}, {});
  EXPECT_EQ(code_of(refused), "E_INVALID");
  EXPECT_THAT(
      message_of(refused),
      ::testing::StartsWith("Invalid datastore 'other'.\nKnown datastores: ds.\nDefault datastore: ds"));
}

TYPED_TEST_P(ControlPlaneContract, AttachesIdempotently) {
  this->make("db");
  auto first = this->one().attach(name_of("db"));
  auto second = this->one().attach(name_of("db@ds"));
  ASSERT_OK(first);
  ASSERT_OK(second);
  EXPECT_EQ(*first, *second);
  auto info = this->one().get(name_of("db"));
  ASSERT_OK(info);
  EXPECT_TRUE(info->is_attached_here);
  EXPECT_EQ(info->address, *first);
  ASSERT_TRUE(info->holder);
  EXPECT_EQ(info->holder->name, "host-a");
  EXPECT_THAT(texts(this->one().attached_here()), ::testing::ElementsAre("db@ds"));
  EXPECT_THAT(texts(this->two().attached_here()), ::testing::IsEmpty());
}

TYPED_TEST_P(ControlPlaneContract, SaysWhoHasADiskThatIsBusy) {
  this->make("db");
  ASSERT_OK(this->one().attach(name_of("db")));
  auto busy = this->two().attach(name_of("db"));
  EXPECT_EQ(code_of(busy), "E_BUSY_ELSEWHERE");
  EXPECT_THAT(message_of(busy),
              ::testing::MatchesRegex("attach 'db': disk is attached to vm 'host-a' since 20.*Z.*"));
  EXPECT_THAT(busy.error().remedy(), ::testing::HasSubstr("stop its container on 'host-a'"));
  EXPECT_OK(this->two().detach(name_of("db")));
  EXPECT_TRUE(this->one().get(name_of("db"))->is_attached_here) << "a detach elsewhere must not take it away";
  auto info = this->two().get(name_of("db"));
  ASSERT_OK(info);
  EXPECT_FALSE(info->is_attached_here);
  EXPECT_FALSE(info->address);
  ASSERT_TRUE(info->holder);
  EXPECT_EQ(info->holder->name, "host-a");
}

TYPED_TEST_P(ControlPlaneContract, MovesADiskFromHostToHost) {
  this->make("db");
  ASSERT_OK(this->one().attach(name_of("db")));
  ASSERT_OK(this->one().detach(name_of("db")));
  EXPECT_FALSE(this->one().get(name_of("db"))->holder);
  ASSERT_OK(this->two().attach(name_of("db")));
  EXPECT_EQ(this->one().get(name_of("db"))->holder->name, "host-b");
  ASSERT_OK(this->two().detach(name_of("db")));
  EXPECT_OK(this->two().detach(name_of("db")));
}

TYPED_TEST_P(ControlPlaneContract, NeverRemovesAnAttachedDisk) {
  this->make("db");
  ASSERT_OK(this->one().attach(name_of("db")));
  auto here = this->one().remove(name_of("db"));
  EXPECT_EQ(code_of(here), "E_IN_USE");
  EXPECT_THAT(message_of(here), ::testing::StartsWith("Failed to remove volume db, in use by VM = host-a."));
  EXPECT_EQ(code_of(this->two().remove(name_of("db"))), "E_BUSY_ELSEWHERE");
  ASSERT_OK(this->one().detach(name_of("db")));
  EXPECT_OK(this->two().remove(name_of("db")));
  EXPECT_EQ(code_of(this->one().get(name_of("db"))), "E_NOT_FOUND");
  EXPECT_THAT(texts(this->one().list()), ::testing::IsEmpty());
}

TYPED_TEST_P(ControlPlaneContract, TheFirstFormattingOnlyMovesForward) {
  this->make("db");
  ASSERT_OK(this->one().set_init(name_of("db"), InitState::kFormatting, ""));
  EXPECT_EQ(this->two().get(name_of("db"))->init, InitState::kFormatting);
  ASSERT_OK(this->one().set_init(name_of("db"), InitState::kFormatted, "f00d"));
  ASSERT_OK(this->one().set_init(name_of("db"), InitState::kReady, "f00d"));
  ASSERT_OK(this->one().set_init(name_of("db"), InitState::kReady, "f00d"));
  EXPECT_EQ(this->two().get(name_of("db"))->fs_uuid, "f00d");
  EXPECT_EQ(code_of(this->one().set_init(name_of("db"), InitState::kFormatting, "")), "E_INVALID");
  EXPECT_EQ(this->two().get(name_of("db"))->init, InitState::kReady);
}

TYPED_TEST_P(ControlPlaneContract, ResetsOnlyWhatWasBeingFormatted) {
  this->make("db");
  EXPECT_EQ(code_of(this->one().reset(name_of("db"))), "E_INVALID");
  ASSERT_OK(this->one().set_init(name_of("db"), InitState::kFormatting, ""));
  ASSERT_OK(this->one().attach(name_of("db")));
  EXPECT_EQ(code_of(this->one().reset(name_of("db"))), "E_IN_USE");
  ASSERT_OK(this->one().detach(name_of("db")));
  ASSERT_OK(this->one().reset(name_of("db")));
  EXPECT_EQ(this->one().get(name_of("db"))->init, InitState::kNew);
  ASSERT_OK(this->one().set_init(name_of("db"), InitState::kReady, "f00d"));
  EXPECT_EQ(code_of(this->one().reset(name_of("db"))), "E_INVALID");
}

TYPED_TEST_P(ControlPlaneContract, ClonesAreDisksOfTheirOwn) {
  this->make("src", {{"size", "8mb"}, {"fstype", "xfs"}});
  ASSERT_OK(this->one().set_init(name_of("src"), InitState::kReady, "f00d"));
  ASSERT_OK(this->two().create(name_of("copy"), {{"clone-from", "src@ds"}, {"access", "read-only"}}, {}));
  auto source = this->one().get(name_of("src"));
  auto copy = this->one().get(name_of("copy"));
  ASSERT_OK(source);
  ASSERT_OK(copy);
  EXPECT_EQ(copy->size_bytes, source->size_bytes);
  EXPECT_NE(copy->disk_uuid, source->disk_uuid);
  EXPECT_EQ(copy->options.at("clone-from"), "src");
  EXPECT_EQ(copy->options.at("fstype"), "xfs");
  EXPECT_EQ(copy->options.at("access"), "read-only");
  EXPECT_EQ(copy->created_by, "host-b");
  EXPECT_EQ(copy->init, InitState::kReady);
  EXPECT_EQ(copy->fs_uuid, "f00d");
}

TYPED_TEST_P(ControlPlaneContract, AClonesSourceMustBeThereAndFree) {
  auto missing = this->one().create(name_of("copy"), {{"clone-from", "src"}}, {});
  EXPECT_EQ(code_of(missing), "E_NOT_FOUND");
  EXPECT_EQ(message_of(missing), "Could not find volume for cloning src");
  this->make("src");
  ASSERT_OK(this->one().attach(name_of("src")));
  auto busy = this->two().create(name_of("copy"), {{"clone-from", "src"}}, {});
  EXPECT_EQ(code_of(busy), "E_BUSY_ELSEWHERE");
  EXPECT_THAT(message_of(busy), ::testing::HasSubstr("attached to vm 'host-a'"));
  EXPECT_EQ(code_of(this->one().get(name_of("copy"))), "E_NOT_FOUND");
  ASSERT_OK(this->one().detach(name_of("src")));
  EXPECT_OK(this->two().create(name_of("copy"), {{"clone-from", "src"}}, {}));
  EXPECT_EQ(this->one().get(name_of("copy"))->init, InitState::kNew) << "of a disk that nobody has formatted";
}

TYPED_TEST_P(ControlPlaneContract, ReportsProgressUpToTheEnd) {
  std::vector<double> seen;
  ASSERT_OK(this->one().create(name_of("db"), {{"size", "16mb"}, {"diskformat", "eagerzeroedthick"}},
                               [&](double done) { seen.push_back(done); }));
  ASSERT_FALSE(seen.empty());
  EXPECT_TRUE(std::ranges::is_sorted(seen));
  EXPECT_EQ(seen.back(), 1.0);
}

REGISTER_TYPED_TEST_SUITE_P(ControlPlaneContract, ShowsWhatWasCreated, ListsQualifiedNamesInOrder,
                            SaysThatAVolumeExistsWhateverItsOptions, SaysNotFoundForAVolumeThatIsNotThere,
                            NamesTheKnownDatastoresForAnUnknownOne, AttachesIdempotently,
                            SaysWhoHasADiskThatIsBusy, MovesADiskFromHostToHost, NeverRemovesAnAttachedDisk,
                            TheFirstFormattingOnlyMovesForward, ResetsOnlyWhatWasBeingFormatted,
                            ClonesAreDisksOfTheirOwn, AClonesSourceMustBeThereAndFree,
                            ReportsProgressUpToTheEnd);

}  // namespace vdvs::esx::testing
