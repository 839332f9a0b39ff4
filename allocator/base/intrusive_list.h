// A doubly linked list whose links are members of the elements, so that it never allocates.
//
// An element derives from ListLink<Tag> once per list that it may be on at the same time. Zero-initialised lists and
// links are valid and empty, so lists may be constinit globals. Not thread-safe; the owner's lock guards it.
#pragma once

#include <cstddef>

#include "allocator/base/check.h"

namespace tarn {

template <typename Tag>
class ListLink {
 public:
  bool linked() const { return previous_next_ != nullptr; }

 private:
  template <typename T, typename U>
  friend class IntrusiveList;
  ListLink* next_ = nullptr;
  // The pointer that points at this element: the head of the list or the next_ of the element before.
  ListLink** previous_next_ = nullptr;
};

template <typename T, typename Tag = T>
class IntrusiveList {
 public:
  using Link = ListLink<Tag>;

  bool empty() const { return head_ == nullptr; }
  T* front() const { return head_ == nullptr ? nullptr : static_cast<T*>(head_); }
  static T* Next(const T* element) {
    Link* next = static_cast<const Link*>(element)->next_;
    return next == nullptr ? nullptr : static_cast<T*>(next);
  }

  void PushFront(T* element) {
    Link* link = element;
    TARN_DCHECK(!link->linked());
    link->next_ = head_;
    link->previous_next_ = &head_;
    if (head_ != nullptr) head_->previous_next_ = &link->next_;
    head_ = link;
  }

  static void Remove(T* element) {
    Link* link = element;
    TARN_DCHECK(link->linked());
    *link->previous_next_ = link->next_;
    if (link->next_ != nullptr) link->next_->previous_next_ = link->previous_next_;
    link->next_ = nullptr;
    link->previous_next_ = nullptr;
  }

  T* PopFront() {
    T* element = front();
    if (element != nullptr) Remove(element);
    return element;
  }

 private:
  Link* head_ = nullptr;
};

}  // namespace tarn
