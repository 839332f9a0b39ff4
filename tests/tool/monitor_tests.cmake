# Tests of `tarn serve`.
tarn_add_test(NAME monitor_test SOURCES monitor_test.cc LINK none GTEST LIBS tarn_tool LABELS tool unit)
tarn_test_wanted(wanted script tool)
if(wanted)
  tarn_add_script_test(NAME serve_test LABELS tool TIMEOUT 120
                       COMMAND serve_test.py $<TARGET_FILE:tarn_command> $<TARGET_FILE:serve_program>)
  tarn_add_script_test(NAME monitor_examples_test LABELS tool TIMEOUT 120
                       COMMAND monitor_examples_test.py $<TARGET_FILE:tarn_command> $<TARGET_FILE:serve_program>)
  # Skipped where there is no browser, or no page.
  tarn_add_script_test(NAME page_test LABELS tool TIMEOUT 120
                       COMMAND page_test.py $<TARGET_FILE:tarn_command> $<TARGET_FILE:serve_program>)
  add_executable(serve_program serve_program.cc)
  target_compile_options(serve_program PRIVATE -g -fno-builtin)
endif()
