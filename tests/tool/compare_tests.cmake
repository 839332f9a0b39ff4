# SPDX-License-Identifier: Apache-2.0
#
# Tests of tarn run, tarn compare, and of what is common to all verbs.
tarn_add_test(NAME tool_statistics_test SOURCES statistics_test.cc LINK none LIBS tarn_tool GTEST
              LABELS tool)
# A sanitizer build has the tool, but no library to preload.
tarn_add_script_test(NAME tool_compare_test COMMAND compare_test.py LABELS tool TIMEOUT 120)
