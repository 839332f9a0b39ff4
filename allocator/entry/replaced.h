// SPDX-License-Identifier: Apache-2.0
//
// The functions of malloc's family, and the operators, that the program defines itself although tarn is in the process.
//
// A program may define its own malloc (glibc's manual, "Replacing malloc"), or some of the operators only: the standard
// says that the other forms then call those ([new.delete.single], [new.delete.array]). Leak counters, debuggers and
// Firefox do so. The loader takes the program's definitions for all callers, so tarn's are reached for the other forms
// only, and these go by the program's:
//
//   operator new               by malloc, where the program replaced it
//   operator delete            by free
//   new and delete, aligned    by the program's memalign, aligned_alloc or posix_memalign, and free, where it replaced
//                              one of the three; else by tarn, both
//   other forms of operators   by the forms that the standard names
//   reallocarray               by realloc
//   cfree, free_sized, ...     by free
//   valloc, pvalloc            as the aligned new
//
// malloc, free, calloc, realloc, memalign, aligned_alloc and posix_memalign themselves serve each caller: the
// program's own definition may call them (dlsym with RTLD_NEXT).
//
// A definition counts if it is found before tarn's in the order of the loader's search, and libc is not. What a library
// defines that stands behind tarn has no caller. Where tarn is loaded by dlopen nothing counts.
#pragma once

#include <cstddef>
#include <cstdint>

#include "allocator/base/attributes.h"

// A second, hidden name for tarn's own definition, tarn_own_<name>, in the file that has the definition. By the
// assembler: for a compiler's alias the types would have to match.
#define TARN_OWN_NAME(name, symbol) \
  asm(".globl tarn_own_" #name "\n.hidden tarn_own_" #name "\n.set tarn_own_" #name ", " symbol "\n")

namespace tarn {

enum class Function : unsigned {
  kMalloc,
  kFree,
  kRealloc,
  kMemalign,
  kAlignedAlloc,
  kPosixMemalign,
  kNew,
  kNewArray,
  kNewAligned,
  kNewArrayAligned,
  kDelete,
  kDeleteArray,
  kDeleteAligned,
  kDeleteArrayAligned,
  kCount,
};

// Bits of Function. The first caller looks for them, without a lock.
TARN_NOINLINE std::uint32_t ReplacedFunctions();

constexpr std::uint32_t Bit(Function function) { return std::uint32_t{1} << static_cast<unsigned>(function); }
inline bool Replaced(Function function) { return (ReplacedFunctions() & Bit(function)) != 0; }
inline bool ReplacedAligned() {
  constexpr std::uint32_t kAligned =
      Bit(Function::kMemalign) | Bit(Function::kAlignedAlloc) | Bit(Function::kPosixMemalign);
  return (ReplacedFunctions() & kAligned) != 0;
}

// The program's functions, or tarn's where it has none: calls through the symbols that the loader has bound.
namespace bound {
void* Malloc(std::size_t bytes);
void Free(void* object);
void* Reallocate(void* object, std::size_t bytes);
// By one of the aligned functions that is replaced. `alignment` is a power of two, at least that of a pointer.
void* AllocateAligned(std::size_t alignment, std::size_t bytes);
}  // namespace bound

// Opens the hit paths of the operators as far as nothing is replaced and no check wants to see sizes. Their
// slow paths do so once the heap has started.
void OpenOperators();

}  // namespace tarn
