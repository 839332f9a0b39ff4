# SPDX-License-Identifier: Apache-2.0
#
# How fuzzers are declared.
#
#   tarn_fuzzer(NAME n SOURCES n.cc ... [LIBRARIES lib...] [CORPUS directory] [MAX_BYTES n] [PLAIN])
#       builds the fuzzer n, by libFuzzer, in the build of the preset `fuzz`; elsewhere it does nothing. It is compiled
#       with AddressSanitizer and UndefinedBehaviorSanitizer, and so are the libraries. With PLAIN it has no
#       AddressSanitizer, and its part of the allocator is tarn_core_plain in place of tarn_core: for what an
#       AddressSanitizer would slow down and finds nothing in, such as page heaps over simulated memory.
#       The directory of seeds is tests/corpus/n, or the one that CORPUS names, from the root. MAX_BYTES bounds inputs
#       (4096).
#
# A fuzzer lies in the directory of tests of the room that it is for, as *_fuzzer.cc; tests/fuzz has what fuzzers share.
# The target `fuzzers` builds all, and tools/fuzz runs them. It reads the list that tarn_fuzz_finish() writes.

option(TARN_FUZZ "Instrument the libraries for libFuzzer, and build fuzzers in place of tests. Needs clang." OFF)

if(TARN_FUZZ AND NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  message(FATAL_ERROR "TARN_FUZZ needs clang, and the compiler is ${CMAKE_CXX_COMPILER}: cmake --preset fuzz")
endif()

set_property(GLOBAL PROPERTY TARN_FUZZERS "")
if(TARN_FUZZ)
  add_custom_target(fuzzers)
endif()

function(tarn_fuzzer)
  if(NOT TARN_FUZZ)
    return()
  endif()
  cmake_parse_arguments(PARSE_ARGV 0 arg "PLAIN" "NAME;CORPUS;MAX_BYTES" "SOURCES;LIBRARIES")
  if(arg_UNPARSED_ARGUMENTS OR NOT arg_NAME OR NOT arg_SOURCES)
    message(FATAL_ERROR "tarn_fuzzer(${arg_NAME}): not understood: ${arg_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT arg_CORPUS)
    set(arg_CORPUS tests/corpus/${arg_NAME})
  endif()
  if(NOT arg_MAX_BYTES)
    set(arg_MAX_BYTES 4096)
  endif()
  add_executable(${arg_NAME} EXCLUDE_FROM_ALL ${arg_SOURCES})
  set_target_properties(${arg_NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/fuzzers UNITY_BUILD OFF)
  target_compile_options(${arg_NAME} PRIVATE -UNDEBUG)
  target_link_options(${arg_NAME} PRIVATE -fsanitize=fuzzer)
  if(arg_PLAIN)
    target_compile_options(${arg_NAME} PRIVATE -fno-sanitize=address)
    target_link_options(${arg_NAME} PRIVATE -fno-sanitize=address)
    list(TRANSFORM arg_LIBRARIES REPLACE "^tarn_core$" "tarn_core_plain")
  endif()
  target_link_libraries(${arg_NAME} PRIVATE ${arg_LIBRARIES} Threads::Threads)
  add_dependencies(fuzzers ${arg_NAME})
  set_property(GLOBAL APPEND PROPERTY TARN_FUZZERS "${arg_NAME} ${arg_CORPUS} ${arg_MAX_BYTES}")
endfunction()

# Writes fuzzers/list.txt: a line for each fuzzer, with its name, its corpus and the bound on its inputs.
function(tarn_fuzz_finish)
  if(NOT TARN_FUZZ)
    return()
  endif()
  get_property(fuzzers GLOBAL PROPERTY TARN_FUZZERS)
  list(JOIN fuzzers "\n" lines)
  file(WRITE ${PROJECT_BINARY_DIR}/fuzzers/list.txt "${lines}\n")
endfunction()
