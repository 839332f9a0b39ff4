# SPDX-License-Identifier: Apache-2.0
#
# How tests are declared.
#
#   tarn_add_test(NAME n SOURCES a.cc ... [LINK shared|static|core|none] [LIBS lib...] [GTEST]
#                 [LABELS l...] [TIMEOUT s] [COST s] [ENV K=V...] [ARGS ...] [RUN_SERIAL])
#       builds the executable n. A test that is linked with the library, shared (the default) or
#       static, runs twice, as n.cpu and n.thread, once for each cache mode; a test of tarn_core
#       or of none of it runs once, as n.
#   tarn_add_script_test(NAME n COMMAND script args... [LABELS l...] [TIMEOUT s] [COST s] [ENV K=V...]
#                        [MODES] [LONG] [RUN_SERIAL])
#       runs a script with TARN_LIB (the path of libtarn.so) and TARN_BUILD (the build directory)
#       in its environment; with MODES once for each cache mode, with TARN_MODE set. With LONG it
#       belongs to the longer test mode: ctest runs it only with -C long. Python imports modules
#       from TARN_TEST_PYTHONPATH, too, where a directory of tests sets that.
#
# A test that ends with exit code 77 counts as skipped: something that it needs is not there.
#
# COST is the seconds of a test that takes many. ctest starts these first, so that none of them is left for the end,
# where nothing else runs.
#
# Tests are labelled with what they are linked with, too (core, shared, static). The label `asan`
# or `tsan` says that a test also runs in that sanitizer's build; only the tests of tarn_core and
# those linked with nothing can, for there the sanitizer's malloc is the malloc of the process.

find_package(Threads REQUIRED)

set(TARN_TEST_DEFAULT_TIMEOUT_SECONDS 120)
# TIMEOUT is for a machine that does little else. A busy one gets this many times as long before a test counts as hung.
set(TARN_TEST_BUSY_FACTOR 5)

# The modes that this build can run in. Without rseq there is only one.
set(TARN_TEST_MODES cpu thread)
if(TARN_NO_RSEQ)
  set(TARN_TEST_MODES thread)
endif()

# Sets `result` to whether a test with these labels belongs to this build.
function(tarn_test_wanted result link labels)
  set(wanted TRUE)
  if(TARN_TEST_LABELS)
    list(FILTER labels INCLUDE REGEX "${TARN_TEST_LABELS}")
    if(NOT labels)
      set(wanted FALSE)
    endif()
  endif()
  if(TARN_SANITIZE AND NOT link MATCHES "^(core|none)$")
    set(wanted FALSE)
  endif()
  # That build is for fuzzers.
  if(TARN_FUZZ)
    set(wanted FALSE)
  endif()
  set(${result} ${wanted} PARENT_SCOPE)
endfunction()

# Registers one ctest, or one for each cache mode.
function(tarn_register_test name modes)
  cmake_parse_arguments(PARSE_ARGV 2 arg "RUN_SERIAL;LONG" "TIMEOUT;COST" "COMMAND;LABELS;ENV")
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT ${TARN_TEST_DEFAULT_TIMEOUT_SECONDS})
  endif()
  math(EXPR timeout "${arg_TIMEOUT} * ${TARN_TEST_BUSY_FACTOR}")
  if(modes)
    set(variants ${TARN_TEST_MODES})
  else()
    set(variants once)
  endif()
  foreach(variant ${variants})
    set(test ${name})
    set(environment ${arg_ENV})
    # Else a death test's child, by a bare clone, goes on with what the thread sanitizer knows of its parent's threads.
    if(TARN_SANITIZE STREQUAL "thread")
      list(APPEND environment GTEST_DEATH_TEST_STYLE=threadsafe)
    endif()
    if(modes)
      set(test ${name}.${variant})
      list(APPEND environment TARN_MODE=${variant})
    endif()
    set(configurations "")
    if(arg_LONG)
      set(configurations CONFIGURATIONS long)
      list(APPEND arg_LABELS long)
      list(REMOVE_DUPLICATES arg_LABELS)
    endif()
    add_test(NAME ${test} COMMAND ${arg_COMMAND} ${configurations})
    set_tests_properties(${test} PROPERTIES
      LABELS "${arg_LABELS}"
      TIMEOUT ${timeout}
      SKIP_RETURN_CODE 77
      ENVIRONMENT "${environment}")
    if(arg_COST)
      set_tests_properties(${test} PROPERTIES COST ${arg_COST})
    endif()
    if(arg_RUN_SERIAL)
      set_tests_properties(${test} PROPERTIES RUN_SERIAL ON)
    endif()
  endforeach()
endfunction()

function(tarn_add_test)
  cmake_parse_arguments(PARSE_ARGV 0 arg "GTEST;RUN_SERIAL" "NAME;LINK;TIMEOUT;COST"
                        "SOURCES;LIBS;LABELS;ENV;ARGS")
  if(arg_UNPARSED_ARGUMENTS OR NOT arg_NAME OR NOT arg_SOURCES)
    message(FATAL_ERROR "tarn_add_test(${arg_NAME}): not understood: ${arg_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT arg_LINK)
    set(arg_LINK shared)
  endif()
  if(NOT arg_LINK MATCHES "^(shared|static|core|none)$")
    message(FATAL_ERROR "tarn_add_test(${arg_NAME}): LINK ${arg_LINK} is not known")
  endif()
  if(NOT arg_LINK STREQUAL "none")
    list(APPEND arg_LABELS ${arg_LINK})
    list(REMOVE_DUPLICATES arg_LABELS)
  endif()
  tarn_test_wanted(wanted ${arg_LINK} "${arg_LABELS}")
  if(NOT wanted)
    return()
  endif()

  add_executable(${arg_NAME} ${arg_SOURCES})
  set_target_properties(${arg_NAME} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  # A test that uses assert must not lose it in the release build.
  target_compile_options(${arg_NAME} PRIVATE -UNDEBUG)
  # The compiler may not remove a malloc or a new whose result is only freed: that is what is tested.
  target_compile_options(${arg_NAME} PRIVATE -fno-builtin
                         $<$<CXX_COMPILER_ID:GNU>:-fno-allocation-dce>)
  if(NOT arg_LINK STREQUAL "none")
    target_link_libraries(${arg_NAME} PRIVATE tarn_${arg_LINK})
  endif()
  if(arg_GTEST)
    target_link_libraries(${arg_NAME} PRIVATE GTest::gtest_main)
    # Unit tests are compiled in six variants and run for seconds: less optimised they are there sooner. Sanitizers take
    # a third of the time at -O0, and so do the tool's; elsewhere tests include rseq sequences, whose constants must be
    # folded.
    if(TARN_SANITIZE OR "tarn_tool" IN_LIST arg_LIBS)
      target_compile_options(${arg_NAME} PRIVATE -O0 -g1)
    else()
      target_compile_options(${arg_NAME} PRIVATE -O1 -g1)
    endif()
    # The headers that they share take longer to read than most tests; so all sources of a test are compiled as one.
    set_target_properties(${arg_NAME} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 0)
  endif()
  target_link_libraries(${arg_NAME} PRIVATE ${arg_LIBS} Threads::Threads)

  set(modes FALSE)
  if(arg_LINK MATCHES "^(shared|static)$")
    set(modes TRUE)
  endif()
  set(serial "")
  if(arg_RUN_SERIAL)
    set(serial RUN_SERIAL)
  endif()
  tarn_register_test(${arg_NAME} ${modes} COMMAND ${arg_NAME} ${arg_ARGS} LABELS ${arg_LABELS}
                     TIMEOUT ${arg_TIMEOUT} COST ${arg_COST} ENV ${arg_ENV} ${serial})
endfunction()

function(tarn_add_script_test)
  cmake_parse_arguments(PARSE_ARGV 0 arg "MODES;LONG;RUN_SERIAL" "NAME;TIMEOUT;COST" "COMMAND;LABELS;ENV")
  if(arg_UNPARSED_ARGUMENTS OR NOT arg_NAME OR NOT arg_COMMAND)
    message(FATAL_ERROR
            "tarn_add_script_test(${arg_NAME}): not understood: ${arg_UNPARSED_ARGUMENTS}")
  endif()
  # Scripts look at the built library, which a sanitizer's build has not.
  tarn_test_wanted(wanted script "${arg_LABELS}")
  if(NOT wanted)
    return()
  endif()
  # A script is named relative to the directory that declares it.
  list(POP_FRONT arg_COMMAND script)
  if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${script})
    set(script ${CMAKE_CURRENT_SOURCE_DIR}/${script})
  endif()
  if(TARGET tarn_shared)
    list(APPEND arg_ENV TARN_LIB=$<TARGET_FILE_DIR:tarn_shared>/libtarn.so)
  endif()
  list(APPEND arg_ENV TARN_BUILD=${PROJECT_BINARY_DIR})
  if(TARN_TEST_PYTHONPATH)
    list(APPEND arg_ENV PYTHONPATH=${TARN_TEST_PYTHONPATH})
  endif()
  set(serial "")
  if(arg_RUN_SERIAL)
    set(serial RUN_SERIAL)
  endif()
  set(long "")
  if(arg_LONG)
    set(long LONG)
  endif()
  tarn_register_test(${arg_NAME} ${arg_MODES} COMMAND ${script} ${arg_COMMAND}
                     LABELS ${arg_LABELS} TIMEOUT ${arg_TIMEOUT} COST ${arg_COST} ENV ${arg_ENV} ${serial} ${long})
endfunction()
