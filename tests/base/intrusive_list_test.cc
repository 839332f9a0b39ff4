// SPDX-License-Identifier: Apache-2.0
//
// IntrusiveList against std::list, and its links as they are left behind.

#include "allocator/base/intrusive_list.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <random>
#include <vector>

namespace tarn {
namespace {

struct OtherTag {};

struct Element : ListLink<Element>, ListLink<OtherTag> {
  int number = 0;
};

using List = IntrusiveList<Element>;
using OtherList = IntrusiveList<Element, OtherTag>;

bool OnList(const Element& element) { return static_cast<const ListLink<Element>&>(element).linked(); }

std::vector<Element*> Walk(const List& list) {
  std::vector<Element*> elements;
  for (Element* element = list.front(); element != nullptr; element = list.Next(element)) elements.push_back(element);
  return elements;
}

TEST(IntrusiveList, StartsEmptyWithoutAConstructorAtRunTime) {
  static constinit List list;
  EXPECT_TRUE(list.empty());
  EXPECT_EQ(list.front(), nullptr);
  EXPECT_EQ(list.back(), nullptr);
  EXPECT_EQ(list.PopFront(), nullptr);
  static Element element;
  list.PushFront(&element);
  EXPECT_EQ(list.back(), &element);
  EXPECT_EQ(list.PopFront(), &element);
  EXPECT_TRUE(list.empty());
  EXPECT_EQ(list.front(), nullptr);
  EXPECT_EQ(list.back(), nullptr);
}

TEST(IntrusiveList, TakesOutOfTheFrontTheMiddleAndTheEnd) {
  for (std::size_t victim = 0; victim < 3; ++victim) {
    List list;
    Element elements[3];
    for (Element& element : elements) list.PushFront(&element);
    std::vector<Element*> expected = {&elements[2], &elements[1], &elements[0]};
    ASSERT_EQ(Walk(list), expected);
    List::Remove(expected[victim]);
    EXPECT_FALSE(OnList(*expected[victim]));
    expected.erase(expected.begin() + static_cast<std::ptrdiff_t>(victim));
    EXPECT_EQ(Walk(list), expected);
    for (const Element* element : expected) EXPECT_TRUE(OnList(*element));
  }
}

TEST(IntrusiveList, AnElementMayBeOnOneListPerTag) {
  List list;
  OtherList other;
  Element a;
  Element b;
  list.PushFront(&a);
  other.PushFront(&b);
  other.PushFront(&a);
  List::Remove(&a);
  EXPECT_TRUE(list.empty());
  EXPECT_EQ(other.front(), &a);
  EXPECT_EQ(other.Next(&a), &b);
  EXPECT_EQ(other.PopFront(), &a);
  EXPECT_EQ(other.PopFront(), &b);
  EXPECT_TRUE(other.empty());
}

TEST(IntrusiveList, RandomOperationsMatchTheOracle) {
  std::mt19937_64 random(2);
  std::vector<Element> elements(40);
  List lists[3];
  std::list<Element*> oracles[3];
  std::vector<int> home(elements.size(), -1);
  for (int step = 0; step < 20000; ++step) {
    const std::size_t i = random() % elements.size();
    if (home[i] < 0) {
      home[i] = static_cast<int>(random() % 3);
      lists[home[i]].PushFront(&elements[i]);
      oracles[home[i]].push_front(&elements[i]);
    } else if (random() % 4 == 0) {
      const int list = home[i];
      Element* popped = lists[list].PopFront();
      ASSERT_EQ(popped, oracles[list].front());
      oracles[list].pop_front();
      home[static_cast<std::size_t>(popped - elements.data())] = -1;
    } else {
      List::Remove(&elements[i]);
      oracles[home[i]].remove(&elements[i]);
      home[i] = -1;
    }
    ASSERT_EQ(OnList(elements[i]), home[i] >= 0);
    for (int list = 0; list < 3; ++list) {
      ASSERT_EQ(lists[list].empty(), oracles[list].empty());
      ASSERT_TRUE(std::ranges::equal(Walk(lists[list]), oracles[list])) << "step " << step;
      ASSERT_EQ(lists[list].back(), oracles[list].empty() ? nullptr : oracles[list].back()) << "step " << step;
    }
  }
}

}  // namespace
}  // namespace tarn
