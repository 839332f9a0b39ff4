# SPDX-License-Identifier: Apache-2.0
#
# Tests of `tarn serve`.
tarn_add_test(NAME monitor_test SOURCES monitor_test.cc LINK none GTEST LIBS tarn_tool LABELS tool unit)
tarn_test_wanted(wanted script tool)
if(wanted)
  tarn_add_script_test(NAME serve_test LABELS tool TIMEOUT 240
                       COMMAND serve_test.py $<TARGET_FILE:tarn_command> $<TARGET_FILE:serve_program>)
  tarn_add_script_test(NAME monitor_examples_test LABELS tool TIMEOUT 120
                       COMMAND monitor_examples_test.py $<TARGET_FILE:tarn_command> $<TARGET_FILE:serve_program>)
  tarn_add_script_test(NAME targets_test LABELS tool TIMEOUT 240
                       COMMAND targets_test.py $<TARGET_FILE:tarn_command> $<TARGET_FILE:serve_program>)
  # Skipped where there is no browser, or no page.
  tarn_add_script_test(NAME page_test LABELS tool TIMEOUT 240
                       COMMAND page_test.py $<TARGET_FILE:tarn_command> $<TARGET_FILE:serve_program>)
  add_executable(serve_program serve_program.cc)
  target_compile_options(serve_program PRIVATE -g -fno-builtin)
endif()
if(TARGET tarn_monitor AND NOT TARN_SANITIZE)
  tarn_add_test(NAME embedded_test SOURCES embedded_test.cc LINK shared GTEST LIBS tarn_monitor LABELS tool TIMEOUT 120)
  tarn_add_test(NAME embedded_without_tarn SOURCES embedded_without_tarn.cc LINK none LIBS tarn_monitor LABELS tool)
  tarn_add_test(NAME example_memory_monitor SOURCES ${PROJECT_SOURCE_DIR}/docs/examples/memory_monitor.cc LINK shared
                LIBS tarn_monitor LABELS tool)
endif()
