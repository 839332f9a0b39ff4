// SPDX-License-Identifier: Apache-2.0
//
// The other file of static_atfork_program.cc. As a shared library it has a pthread_atfork of its own, as each library
// has that calls it.
#include <pthread.h>

extern "C" __attribute__((visibility("default"))) int tarn_test_register_atfork(void (*prepare)(), void (*parent)(),
                                                                                void (*child)()) {
  return pthread_atfork(prepare, parent, child);
}
