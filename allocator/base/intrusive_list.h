// SPDX-License-Identifier: Apache-2.0
//
// A doubly linked list whose links are members of the elements, so that it never allocates.
//
// An element derives from ListLink<Tag> once per list that it may be on at the same time. The list is a ring through a
// link of its own. Zero-initialised lists and links are valid and empty, so lists may be constinit globals; a list that
// was used must not move. Not thread-safe; the owner's lock guards it.
#pragma once

#include <cstddef>

#include "allocator/base/check.h"

namespace tarn {

template <typename Tag>
class ListLink {
 public:
  bool linked() const { return next_ != nullptr; }

 private:
  template <typename T, typename U>
  friend class IntrusiveList;
  ListLink* next_ = nullptr;
  ListLink* previous_ = nullptr;
};

template <typename T, typename Tag = T>
class IntrusiveList {
 public:
  using Link = ListLink<Tag>;

  bool empty() const { return ring_.next_ == nullptr || ring_.next_ == &ring_; }
  T* front() const { return empty() ? nullptr : static_cast<T*>(ring_.next_); }
  T* back() const { return empty() ? nullptr : static_cast<T*>(ring_.previous_); }
  // The element behind `element`, or null.
  T* Next(const T* element) const {
    Link* next = static_cast<const Link*>(element)->next_;
    return next == &ring_ ? nullptr : static_cast<T*>(next);
  }

  void PushFront(T* element) {
    Link* link = element;
    TARN_DCHECK(!link->linked());
    if (ring_.next_ == nullptr) ring_.next_ = ring_.previous_ = &ring_;
    link->next_ = ring_.next_;
    link->previous_ = &ring_;
    ring_.next_->previous_ = link;
    ring_.next_ = link;
  }

  void PushBack(T* element) {
    Link* link = element;
    TARN_DCHECK(!link->linked());
    if (ring_.next_ == nullptr) ring_.next_ = ring_.previous_ = &ring_;
    link->previous_ = ring_.previous_;
    link->next_ = &ring_;
    ring_.previous_->next_ = link;
    ring_.previous_ = link;
  }

  // Takes the element off whatever list it is on.
  static void Remove(T* element) {
    Link* link = element;
    TARN_DCHECK(link->linked());
    link->previous_->next_ = link->next_;
    link->next_->previous_ = link->previous_;
    link->next_ = nullptr;
    link->previous_ = nullptr;
  }

  T* PopFront() {
    T* element = front();
    if (element != nullptr) Remove(element);
    return element;
  }

 private:
  Link ring_;
};

}  // namespace tarn
