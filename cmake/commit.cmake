# SPDX-License-Identifier: Apache-2.0
#
# Writes OUTPUT from the template INPUT, with the commit of the tree in SOURCE, if that is not what it says already:
#   cmake -DGIT=... -DSOURCE=... -DINPUT=... -DOUTPUT=... -P commit.cmake
# Part of every build, for the configuration does not notice a commit. Without git, or outside of a
# clone, the commit is empty.
set(commit "")
if(GIT)
  execute_process(COMMAND ${GIT} -C ${SOURCE} describe --always --dirty
                  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
configure_file(${INPUT} ${OUTPUT} @ONLY)
