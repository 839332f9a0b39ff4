# SPDX-License-Identifier: Apache-2.0
#
# The compile and link flags of tarn, with their reasons.
#
#   tarn_common_flags()              warnings, sanitizers and definitions for every room
#   tarn_core_flags(target)          how code that malloc can reach is compiled
#   tarn_shared_link_flags(target)   how libtarn.so is linked, and how others link with it
#   tarn_static_link_flags(target)   how others link with libtarn.a
#
# For the root CMakeLists.txt and allocator/CMakeLists.txt.

include(CheckLinkerFlag)

if(NOT TARN_SANITIZE MATCHES "^(|address|thread)$")
  message(FATAL_ERROR "TARN_SANITIZE is \"${TARN_SANITIZE}\"; it may be empty, address or thread.")
endif()

macro(tarn_common_flags)
  add_compile_options(-Wall -Wextra -Wundef -Wconversion -Wshadow -Werror)
  # clang checks the lock annotations; gcc does not know them.
  add_compile_options("$<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>")

  # Always defined, so that -Wundef catches a misspelt name.
  add_compile_definitions("TARN_DCHECK_ENABLED=$<BOOL:${TARN_DCHECK}>")
  if(TARN_NO_RSEQ)
    add_compile_definitions(TARN_NO_RSEQ=1)
  endif()

  if(TARN_SANITIZE STREQUAL "address")
    # vptr needs RTTI, which the core is built without.
    add_compile_options(-fsanitize=address,undefined -fno-sanitize=vptr
                        -fno-sanitize-recover=all -fno-omit-frame-pointer)
    add_link_options(-fsanitize=address,undefined)
    # Counts which edges of the code an input takes; libFuzzer itself is linked with fuzzers alone.
    if(TARN_FUZZ)
      add_compile_options(-fsanitize=fuzzer-no-link)
    endif()
  elseif(TARN_SANITIZE STREQUAL "thread")
    add_compile_options(-fsanitize=thread -fno-omit-frame-pointer)
    add_link_options(-fsanitize=thread)
    # gcc says that TSan does not see fences. The core has some, in the rseq part; TSan runs the
    # build without it.
    add_compile_options("$<$<CXX_COMPILER_ID:GNU>:-Wno-tsan>")
  endif()
endmacro()

function(tarn_core_flags target)
  target_compile_features(${target} PUBLIC cxx_std_20)
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_compile_options(${target} PRIVATE
    # The library depends on libc alone, so nothing of the C++ runtime may be called. Unwinding
    # tables stay, because debuggers and profilers walk through malloc, and because operator new
    # throws.
    $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions>
    $<$<COMPILE_LANGUAGE:CXX>:-fno-rtti>
    $<$<COMPILE_LANGUAGE:CXX>:-fno-threadsafe-statics>
    -fasynchronous-unwind-tables
    # Messages name files from the root on, and so does the debug information of the release build: nothing in the
    # library says where it was built. (In gdb: set substitute-path, or start it in the root.) Debug builds keep whole
    # paths there.
    $<IF:$<CONFIG:Debug>,-fmacro-prefix-map,-ffile-prefix-map>=${PROJECT_SOURCE_DIR}/=
    -fPIC
    # So that the shared library goes without what only tests call.
    -ffunction-sections
    # Everything is hidden but what the sources mark as exported; exports.map is the second fence.
    -fvisibility=hidden
    $<$<COMPILE_LANGUAGE:CXX>:-fvisibility-inlines-hidden>
    # Our own calls to our own exported functions go straight, not through the PLT.
    -fno-semantic-interposition
    -fno-plt
    # Thread-local storage is one instruction away and never allocated lazily, because the lazy
    # kind calls malloc.
    -ftls-model=initial-exec
    # In the file that defines them, the compiler may not turn malloc and memset into a call of calloc. It
    # may not drop a pair of malloc and free, either.
    -fno-builtin-malloc -fno-builtin-calloc -fno-builtin-realloc -fno-builtin-free
    # The canary lives in thread-local storage that is not there yet at the loader's first malloc,
    # and it costs a frame on the fast path.
    -fno-stack-protector)
endfunction()

function(tarn_shared_link_flags target)
  set(exports ${PROJECT_SOURCE_DIR}/allocator/exports.map)
  # SOVERSION makes the soname, libtarn.so.0.
  set_target_properties(${target} PROPERTIES
    OUTPUT_NAME tarn
    VERSION ${PROJECT_VERSION}
    SOVERSION ${PROJECT_VERSION_MAJOR}
    LINK_DEPENDS "${exports};${PROJECT_SOURCE_DIR}/allocator/layout.ld")
  check_linker_flag(CXX LINKER:-T,${PROJECT_SOURCE_DIR}/allocator/layout.ld TARN_LINKER_KNOWS_LAYOUT)
  if(TARN_SANITIZE)
    # A sanitizer's run-time library is the malloc of its process; there is no libtarn.so then.
    set_target_properties(${target} PROPERTIES EXCLUDE_FROM_ALL ON)
  else()
    # libc alone: no libstdc++, no libgcc_s. The helpers of libgcc.a (128-bit division) are linked
    # in where they are used; they are hidden in there.
    target_link_options(${target} PRIVATE
      -nodefaultlibs
      LINKER:--no-undefined
      # dlclose must not unmap a malloc whose objects are still in use.
      LINKER:-z,nodelete
      # Our constructor before those of other preloaded libraries, so that their fork handlers run
      # outside of ours.
      LINKER:-z,initfirst
      # Lazy binding would run the loader in the middle of a malloc.
      LINKER:-z,now
      LINKER:-z,relro
      LINKER:-z,noexecstack
      # Code and constants in one mapping: two mappings less in each process, and 4 KiB less in the file.
      LINKER:-z,noseparate-code
      LINKER:--gc-sections
      # Which parts stand together. A linker that knows no such script (mold) chooses for itself.
      $<$<BOOL:${TARN_LINKER_KNOWS_LAYOUT}>:LINKER:-T,${PROJECT_SOURCE_DIR}/allocator/layout.ld>
      LINKER:--version-script=${exports})
    target_link_libraries(${target} PRIVATE -lc -lgcc)
  endif()

  # Debian's gcc passes --as-needed, and most programs name no symbol that only tarn has, so a
  # plain -ltarn would be dropped without a word. This option names the library a first time, in
  # brackets that no --as-needed reaches. It is one option, so that nothing reorders its parts.
  # (-u with one of our symbols does not do it: ld, gold and lld all drop the library still.)
  set(keep "LINKER:--push-state,--no-as-needed")
  target_link_options(${target} INTERFACE
    "$<BUILD_INTERFACE:${keep},$<TARGET_FILE:${target}>,--pop-state>"
    "$<INSTALL_INTERFACE:${keep},$<INSTALL_PREFIX>/${CMAKE_INSTALL_LIBDIR}/libtarn.so,--pop-state>")
endfunction()

function(tarn_static_link_flags target)
  set_target_properties(${target} PROPERTIES OUTPUT_NAME tarn)
  # The operators new and delete are weak, as those of the C++ library are: a program, or the runtime of one of clang's
  # sanitizers, may define its own as well.
  if(NOT TARN_SANITIZE)
    add_custom_command(TARGET ${target} POST_BUILD VERBATIM
      COMMAND ${CMAKE_OBJCOPY} --wildcard "--weaken-symbol=_Zn[wa]*" "--weaken-symbol=_Zd[la]*" $<TARGET_FILE:${target}>)
  endif()
  # The whole archive, or none of it: a program that got malloc from tarn and, say, aligned_alloc
  # from libc, because no object of its own names it, would free a stranger's pointer.
  target_link_options(${target} INTERFACE
    "$<BUILD_INTERFACE:LINKER:--whole-archive,$<TARGET_FILE:${target}>,--no-whole-archive>"
    "$<INSTALL_INTERFACE:LINKER:--whole-archive,$<INSTALL_PREFIX>/${CMAKE_INSTALL_LIBDIR}/libtarn.a,--no-whole-archive>")
endfunction()
