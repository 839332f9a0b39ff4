// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/environment.h"

#include <errno.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <cstdint>

// The stack pointer at the process's entry, kept by the dynamic loader (GLIBC_2.2.5) and by libc in static programs.
// The System V ABI puts argc there, then argv and its NULL, then the environment. Weak, for other libcs lack it.
extern "C" __attribute__((weak)) void* __libc_stack_end;

namespace tarn {

const char* const* Environment() {
  if (environ != nullptr) return environ;
  if (&__libc_stack_end == nullptr || __libc_stack_end == nullptr) return nullptr;
  const auto* words = static_cast<const std::uintptr_t*>(__libc_stack_end);
  const std::uintptr_t argument_count = words[0];
  return reinterpret_cast<const char* const*>(words + 1 + argument_count + 1);
}

bool SecureExecution() { return ::getauxval(AT_SECURE) != 0; }

const char* ProgramName() {
  // The kernel leaves the path that execve was given in the auxiliary vector; argv may not be set up yet.
  const auto* path = reinterpret_cast<const char*>(::getauxval(AT_EXECFN));
  if (path == nullptr) return "?";
  const char* name = path;
  for (const char* c = path; *c != '\0'; ++c) {
    if (*c == '/') name = c + 1;
  }
  return name;
}

}  // namespace tarn
