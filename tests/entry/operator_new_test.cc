// SPDX-License-Identifier: Apache-2.0
//
// The 20 replaceable forms of operator new and operator delete, and the loop over the new-handler.

#include <errno.h>
#include <gtest/gtest.h>

#include <new>
#include <set>
#include <stdexcept>
#include <vector>

#include "tests/entry/on_tarn.h"
#include "tests/entry/surface.h"

namespace tarn_test {
namespace {

constexpr size_t kImpossible = size_t{PTRDIFF_MAX} + 1;

// A size beyond PTRDIFF_MAX, of which the compiler knows nothing.
size_t Impossible() { return Opaque(kImpossible); }

class NewHandlerGuard {
 public:
  explicit NewHandlerGuard(std::new_handler handler) : before_(std::set_new_handler(handler)) {}
  ~NewHandlerGuard() { std::set_new_handler(before_); }

 private:
  std::new_handler before_;
};

// All eight operators new behind one shape; those without an alignment ignore it.
struct NewForm {
  const char* name;
  bool throws;
  bool aligned;
  void* (*call)(size_t size, std::align_val_t alignment);
};

const NewForm kNewForms[] = {
    {"new(n)", true, false, [](size_t n, std::align_val_t) { return ::operator new(n); }},
    {"new[](n)", true, false, [](size_t n, std::align_val_t) { return ::operator new[](n); }},
    {"new(n, nothrow)", false, false, [](size_t n, std::align_val_t) { return ::operator new(n, std::nothrow); }},
    {"new[](n, nothrow)", false, false, [](size_t n, std::align_val_t) { return ::operator new[](n, std::nothrow); }},
    {"new(n, a)", true, true, [](size_t n, std::align_val_t a) { return ::operator new(n, a); }},
    {"new[](n, a)", true, true, [](size_t n, std::align_val_t a) { return ::operator new[](n, a); }},
    {"new(n, a, nothrow)", false, true,
     [](size_t n, std::align_val_t a) { return ::operator new(n, a, std::nothrow); }},
    {"new[](n, a, nothrow)", false, true,
     [](size_t n, std::align_val_t a) { return ::operator new[](n, a, std::nothrow); }},
};

// And all twelve operators delete.
struct DeleteForm {
  const char* name;
  bool aligned;
  void (*call)(void* object, size_t size, std::align_val_t alignment);
};

const DeleteForm kDeleteForms[] = {
    {"delete(p)", false, [](void* p, size_t, std::align_val_t) { ::operator delete(p); }},
    {"delete[](p)", false, [](void* p, size_t, std::align_val_t) { ::operator delete[](p); }},
    {"delete(p, n)", false, [](void* p, size_t n, std::align_val_t) { ::operator delete(p, n); }},
    {"delete[](p, n)", false, [](void* p, size_t n, std::align_val_t) { ::operator delete[](p, n); }},
    {"delete(p, nothrow)", false, [](void* p, size_t, std::align_val_t) { ::operator delete(p, std::nothrow); }},
    {"delete[](p, nothrow)", false, [](void* p, size_t, std::align_val_t) { ::operator delete[](p, std::nothrow); }},
    {"delete(p, a)", true, [](void* p, size_t, std::align_val_t a) { ::operator delete(p, a); }},
    {"delete[](p, a)", true, [](void* p, size_t, std::align_val_t a) { ::operator delete[](p, a); }},
    {"delete(p, n, a)", true, [](void* p, size_t n, std::align_val_t a) { ::operator delete(p, n, a); }},
    {"delete[](p, n, a)", true, [](void* p, size_t n, std::align_val_t a) { ::operator delete[](p, n, a); }},
    {"delete(p, a, nothrow)", true, [](void* p, size_t, std::align_val_t a) { ::operator delete(p, a, std::nothrow); }},
    {"delete[](p, a, nothrow)", true,
     [](void* p, size_t, std::align_val_t a) { ::operator delete[](p, a, std::nothrow); }},
};

const size_t kNewSizes[] = {0,    1,         7,          8,          9,          15,   16,      17,
                            24,   40,        64,         100,        500,        1024, 4000,    8192,
                            9000, 32 * kKiB, 100 * kKiB, 256 * kKiB, 300 * kKiB, kMiB, 3 * kMiB};

// The alignment that operator new owes where none is given: enough for every object of that size.
size_t DueAlignment(size_t size) {
  size_t alignment = __STDCPP_DEFAULT_NEW_ALIGNMENT__;
  while (alignment > 1 && alignment > size) alignment /= 2;
  return size == 0 ? 1 : alignment;
}

TEST(OperatorNew, AllTwentyComeFromTarn) {
  if (any_allocator_allowed()) GTEST_SKIP() << "another allocator was allowed";
  const auto check = [](const char* name, const void* function) { EXPECT_EQ(WhyNotFromTarn(name, function), ""); };
#define TARN_TEST_ADDRESS(result, function, ...) \
  reinterpret_cast<const void*>(static_cast<result (*)(__VA_ARGS__)>(&::operator function))
#define TARN_TEST_CHECK_NEW(...)                                         \
  check("new" #__VA_ARGS__, TARN_TEST_ADDRESS(void*, new, __VA_ARGS__)); \
  check("new[]" #__VA_ARGS__, TARN_TEST_ADDRESS(void*, new[], __VA_ARGS__))
#define TARN_TEST_CHECK_DELETE(...)                                           \
  check("delete" #__VA_ARGS__, TARN_TEST_ADDRESS(void, delete, __VA_ARGS__)); \
  check("delete[]" #__VA_ARGS__, TARN_TEST_ADDRESS(void, delete[], __VA_ARGS__))
  TARN_TEST_CHECK_NEW(size_t);
  TARN_TEST_CHECK_NEW(size_t, const std::nothrow_t&);
  TARN_TEST_CHECK_NEW(size_t, std::align_val_t);
  TARN_TEST_CHECK_NEW(size_t, std::align_val_t, const std::nothrow_t&);
  TARN_TEST_CHECK_DELETE(void*);
  TARN_TEST_CHECK_DELETE(void*, size_t);
  TARN_TEST_CHECK_DELETE(void*, const std::nothrow_t&);
  TARN_TEST_CHECK_DELETE(void*, std::align_val_t);
  TARN_TEST_CHECK_DELETE(void*, size_t, std::align_val_t);
  TARN_TEST_CHECK_DELETE(void*, std::align_val_t, const std::nothrow_t&);
#undef TARN_TEST_CHECK_NEW
#undef TARN_TEST_CHECK_DELETE
#undef TARN_TEST_ADDRESS
}

TEST(OperatorNew, EveryFormWithEveryFittingDelete) {
  const std::align_val_t kNoAlignment{1};
  for (const NewForm& allocate : kNewForms) {
    for (const DeleteForm& deallocate : kDeleteForms) {
      if (allocate.aligned != deallocate.aligned) continue;
      for (size_t size : kNewSizes) {
        for (size_t alignment : {size_t{1}, size_t{16}, size_t{32}, size_t{256}, 8 * kKiB, 64 * kKiB}) {
          const size_t due = allocate.aligned ? alignment : DueAlignment(size);
          const std::align_val_t given = allocate.aligned ? std::align_val_t{alignment} : kNoAlignment;
          errno = EXDEV;
          void* object = allocate.call(size, given);
          ASSERT_NE(object, nullptr) << allocate.name << " " << size << " " << alignment;
          ASSERT_TRUE(IsAligned(object, due)) << allocate.name << " " << size << " " << due << " " << object;
          ASSERT_GE(malloc_usable_size(object), size);
          Fill(object, 1, 0, size < 20 * kKiB ? size : 20 * kKiB);
          deallocate.call(object, size, given);
          ASSERT_EQ(errno, EXDEV) << allocate.name << " " << deallocate.name << " " << size;
          if (!allocate.aligned) break;
        }
      }
    }
  }
  // Had a delete filed an object under a wrong class, this would end the process.
  EXPECT_GE(malloc_trim(0), 0);
}

TEST(OperatorNew, LiveObjectsDoNotOverlap) {
  // The smallest sizes are where a class of 8 bytes and one of 16 could be mixed up.
  for (size_t size = 1; size <= 64; ++size) {
    std::vector<unsigned char*> objects(600);
    for (size_t i = 0; i < objects.size(); ++i) {
      objects[i] = static_cast<unsigned char*>(i % 2 == 0 ? ::operator new(size) : malloc(size));
      ASSERT_NE(objects[i], nullptr);
      Fill(objects[i], i, 0, size);
    }
    for (size_t i = 0; i < objects.size(); ++i) {
      ASSERT_TRUE(Holds(objects[i], i, 0, size)) << size;
      if (i % 2 == 0) {
        ::operator delete(objects[i], size);
      } else {
        free(objects[i]);
      }
    }
  }
}

TEST(OperatorNew, ZeroGivesDistinctObjects) {
  for (const NewForm& form : kNewForms) {
    std::set<void*> objects;
    for (int i = 0; i < 300; ++i) {
      void* object = form.call(0, std::align_val_t{16});
      ASSERT_NE(object, nullptr) << form.name;
      ASSERT_TRUE(objects.insert(object).second) << form.name;
    }
    for (void* object : objects) {
      if (form.aligned) {
        ::operator delete (object, std::align_val_t{16});
      } else {
        ::operator delete(object);
      }
    }
  }
}

TEST(OperatorDelete, OfNullIsNothing) {
  errno = EXDEV;
  for (const DeleteForm& form : kDeleteForms) {
    form.call(nullptr, 0, std::align_val_t{64});
    form.call(nullptr, 1000, std::align_val_t{64});
    form.call(nullptr, kMiB, std::align_val_t{4096});
  }
  EXPECT_EQ(errno, EXDEV);
}

// Not what the standard allows, but what programs in the field do; it has always worked on Linux.
TEST(OperatorDelete, AndFreeTakeEachOthersObjects) {
  for (size_t size : kNewSizes) {
    free(::operator new(size));
    ::operator delete(malloc(size));
    free(::operator new (size, std::align_val_t{128}));
    void* object = ::operator new(size);
    object = realloc(object, size + 1000);
    ASSERT_NE(object, nullptr);
    ::operator delete(object);
  }
  EXPECT_GE(malloc_trim(0), 0);
}

TEST(OperatorNew, FailsAsItShouldWithoutAHandler) {
  const NewHandlerGuard guard(nullptr);
  // Over the whole range where rounding up could wrap around to something small.
  for (size_t size :
       {kImpossible, SIZE_MAX, SIZE_MAX - 15, SIZE_MAX - 4096, SIZE_MAX - 8192, SIZE_MAX - 2 * kMiB, size_t{1} << 60}) {
    for (const NewForm& form : kNewForms) {
      for (size_t alignment : {16u, 4096u}) {
        if (form.throws) {
          EXPECT_THROW((void)form.call(Opaque(size), std::align_val_t{alignment}), std::bad_alloc)
              << form.name << " " << size;
        } else {
          EXPECT_EQ(form.call(Opaque(size), std::align_val_t{alignment}), nullptr) << form.name << " " << size;
        }
      }
    }
  }
}

TEST(OperatorNew, ArrayExpressionsThatOverflowThrow) {
  struct Element {
    char bytes[24];
  };
  const size_t count = Opaque(SIZE_MAX / 24 + 2);
  EXPECT_THROW((void)Opaque(new Element[count]), std::bad_alloc);
  const size_t bytes = Opaque(size_t{PTRDIFF_MAX} - 100);
  EXPECT_THROW((void)Opaque(new char[bytes]), std::bad_alloc);
  EXPECT_EQ(Opaque(new (std::nothrow) char[bytes]), nullptr);
}

int g_calls = 0;

TEST(NewHandler, IsCalledUntilItGivesUp) {
  for (const NewForm& form : kNewForms) {
    g_calls = 0;
    const NewHandlerGuard guard([] {
      if (++g_calls == 3) std::set_new_handler(nullptr);
    });
    if (form.throws) {
      EXPECT_THROW((void)form.call(Impossible(), std::align_val_t{64}), std::bad_alloc) << form.name;
    } else {
      EXPECT_EQ(form.call(Impossible(), std::align_val_t{64}), nullptr) << form.name;
    }
    EXPECT_EQ(g_calls, 3) << form.name;
  }
}

struct HandlerError : std::bad_alloc {
  int number = 42;
};

TEST(NewHandler, MayThrow) {
  // Ten times over, so that a lock or a guard that an exception left behind would be noticed.
  for (int round = 0; round < 10; ++round) {
    for (const NewForm& form : kNewForms) {
      g_calls = 0;
      const NewHandlerGuard guard([] {
        ++g_calls;
        throw HandlerError();
      });
      if (form.throws) {
        try {
          (void)form.call(Impossible(), std::align_val_t{64});
          ADD_FAILURE() << form.name << " returned";
        } catch (const HandlerError& error) {
          EXPECT_EQ(error.number, 42);
        }
      } else {
        EXPECT_EQ(form.call(Impossible(), std::align_val_t{64}), nullptr)
            << form.name << ": a nothrow form answers a handler's bad_alloc with null";
      }
      EXPECT_EQ(g_calls, 1) << form.name;
    }
  }
}

// A handler may itself allocate.
TEST(NewHandler, MayAllocate) {
  g_calls = 0;
  const NewHandlerGuard guard([] {
    delete Opaque(new std::vector<int>(1000));
    if (++g_calls == 5) throw std::bad_alloc();
  });
  EXPECT_THROW((void)::operator new(Impossible()), std::bad_alloc);
  EXPECT_EQ(g_calls, 5);
}

TEST(NewHandler, IsNotCalledForMalloc) {
  g_calls = 0;
  const NewHandlerGuard guard([] {
    if (++g_calls == 5) throw std::bad_alloc();
  });
  errno = 0;
  EXPECT_EQ(malloc(Impossible()), nullptr);
  EXPECT_EQ(errno, ENOMEM);
  EXPECT_EQ(g_calls, 0);
}

struct alignas(4096) PageAligned {
  char bytes[4096 * 3];
};
struct alignas(128) LineAligned {
  explicit LineAligned(bool fail) {
    if (fail) throw std::runtime_error("a constructor failed");
  }
  char bytes[200];
};

TEST(OperatorNew, ServesExpressions) {
  for (int i = 0; i < 100; ++i) {
    PageAligned* pages = Opaque(new PageAligned[3]);
    ASSERT_TRUE(IsAligned(pages, 4096));
    delete[] pages;
    LineAligned* line = Opaque(new LineAligned(false));
    ASSERT_TRUE(IsAligned(line, 128));
    delete line;
    // The placement delete of a failed constructor.
    EXPECT_THROW((void)Opaque(new LineAligned(true)), std::runtime_error);
    EXPECT_THROW((void)Opaque(new (std::nothrow) LineAligned(true)), std::runtime_error);
    std::vector<std::string>* strings = Opaque(new std::vector<std::string>(50, "some text"));
    delete strings;
  }
}

}  // namespace
}  // namespace tarn_test
