# SPDX-License-Identifier: Apache-2.0
#
# Tests of profiles and of the verbs that look into a process.
tarn_add_test(NAME profile_test SOURCES profile_test.cc LINK none GTEST LIBS tarn_profile ${CMAKE_DL_LIBS}
              LABELS tool unit asan TIMEOUT 60)

tarn_test_wanted(wanted shared tool)
if(wanted)
  tarn_add_test(NAME written_profile_test SOURCES written_profile_test.cc LINK shared GTEST LIBS tarn_profile
                LABELS tool TIMEOUT 150 ENV TARN_HUGE_PAGES=off)
  add_executable(profile_make profile_make.cc)
  target_link_libraries(profile_make PRIVATE tarn_profile)
  tarn_add_script_test(NAME profile_pprof_test LABELS tool TIMEOUT 120
                       COMMAND profile_pprof_test.py $<TARGET_FILE:profile_make> ${CMAKE_CXX_COMPILER})
  tarn_add_script_test(NAME profile_live_test LABELS tool TIMEOUT 240
                       COMMAND profile_live_test.py $<TARGET_FILE:tarn_command> ${CMAKE_CXX_COMPILER}
                               $<TARGET_FILE:profile_stacks_program>)
  add_executable(profile_stacks_program profile_stacks_program.cc)
  target_compile_options(profile_stacks_program PRIVATE -g -fno-builtin)
  add_executable(profile_dump_program profile_dump_program.cc)
  target_compile_options(profile_dump_program PRIVATE -g -fno-builtin)
  target_link_libraries(profile_dump_program PRIVATE Threads::Threads)
  add_executable(release_program release_program.cc)
  target_compile_options(release_program PRIVATE -fno-builtin)
  target_link_libraries(release_program PRIVATE ${CMAKE_DL_LIBS})
  tarn_add_script_test(NAME release_test LABELS tool TIMEOUT 120
                       COMMAND release_test.py $<TARGET_FILE:tarn_command> $<TARGET_FILE:release_program>)
  tarn_add_script_test(NAME profile_dump_test LABELS tool TIMEOUT 120
                       COMMAND profile_dump_test.py $<TARGET_FILE:tarn_command> $<TARGET_FILE:profile_dump_program>)
endif()
