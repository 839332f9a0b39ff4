// SPDX-License-Identifier: Apache-2.0
//
// Finding the C library among loaded objects, whatever its file is called. Some lists are made up of what is loaded
// here, under other names.

#include "allocator/os/load_order.h"

#include <gtest/gtest.h>
#include <link.h>

#include <deque>
#include <string>
#include <vector>

namespace tarn {
namespace {

const link_map* Libc() {
  for (const link_map* object = FirstLoadedObject(); object != nullptr; object = object->l_next) {
    if (std::string(object->l_name).find("libc.so") != std::string::npos) return object;
  }
  return nullptr;
}

// The objects that are loaded, as the loader would list them under other circumstances.
class List {
 public:
  List() {
    for (const link_map* object = FirstLoadedObject(); object != nullptr; object = object->l_next) Add(*object);
  }
  const link_map* first() { return &objects_.front(); }
  link_map* Find(const link_map& loaded) {
    for (link_map& object : objects_) {
      if (object.l_addr == loaded.l_addr && object.l_ld == loaded.l_ld) return &object;
    }
    return nullptr;
  }
  link_map* Add(const link_map& like) {
    objects_.push_back(like);
    link_map* const added = &objects_.back();
    added->l_next = nullptr;
    if (objects_.size() > 1) objects_[objects_.size() - 2].l_next = added;
    return added;
  }
  void Rename(link_map* object, const char* name) {
    names_.emplace_back(name);
    object->l_name = names_.back().data();
  }
  // The object says no longer what it is called.
  void DropOwnName(link_map* object) {
    sections_.emplace_back();
    std::vector<ElfW(Dyn)>& section = sections_.back();
    const ElfW(Dyn)* entry = object->l_ld;
    for (; entry->d_tag != DT_NULL; ++entry) {
      if (entry->d_tag != DT_SONAME) section.push_back(*entry);
    }
    section.push_back(*entry);
    object->l_ld = section.data();
  }

 private:
  std::deque<link_map> objects_;
  std::deque<std::string> names_;
  std::deque<std::vector<ElfW(Dyn)>> sections_;
};

class LoadOrder : public testing::Test {
 protected:
  void SetUp() override {
    if (Libc() == nullptr) GTEST_SKIP() << "no libc.so is among the loaded objects";
  }
};

TEST_F(LoadOrder, HasLibc) {
  EXPECT_EQ(LoadedLibc(), Libc());
  EXPECT_NE(FindFunction(*LoadedLibc(), "__register_atfork"), 0u);
}

TEST_F(LoadOrder, ARenamedLibcIsFound) {
  List list;
  link_map* const libc = list.Find(*Libc());
  list.Rename(libc, "/opt/bundle/libc-2.36.so");
  EXPECT_EQ(FindLibc(list.first(), OwnLoadedObject()), libc);
  list.Rename(libc, "");
  EXPECT_EQ(FindLibc(list.first(), nullptr), libc);
}

TEST_F(LoadOrder, ALibcUnderAnotherNameOfItsOwnIsFoundByWhatItDefines) {
  List list;
  link_map* const libc = list.Find(*Libc());
  list.Rename(libc, "/opt/bundle/libc-2.36.so");
  list.DropOwnName(libc);
  EXPECT_EQ(FindLibc(list.first(), OwnLoadedObject()), libc);
  EXPECT_EQ(FindLibc(list.first(), nullptr), libc);
}

TEST_F(LoadOrder, WhatThisCodeIsPartOfIsNotTakenForLibc) {
  List list;
  link_map* const libc = list.Find(*Libc());
  list.Rename(libc, "/opt/bundle/program");
  list.DropOwnName(libc);
  EXPECT_EQ(FindLibc(list.first(), libc), nullptr);
}

TEST_F(LoadOrder, TheNameOfTheFileComesFirst) {
  List list;
  link_map* const other = list.Add(*list.Find(*Libc()));
  list.Rename(list.Find(*Libc()), "/opt/bundle/libc-2.36.so");
  list.Rename(other, "/lib/libc.so.6");
  EXPECT_EQ(FindLibc(list.first(), nullptr), other);
}

TEST(LoadOrderOfNothing, HasNoLibc) { EXPECT_EQ(FindLibc(nullptr, nullptr), nullptr); }

}  // namespace
}  // namespace tarn
