# SPDX-License-Identifier: Apache-2.0
#
# Builds the page in a directory of the build, never in the source tree. Whatever fails is told and leaves no page, but
# fails nothing. The libraries are fetched only when the package files have changed.
file(MAKE_DIRECTORY ${DIRECTORY})
foreach(source ${SOURCES})
  file(COPY ${source} DESTINATION ${DIRECTORY})
endforeach()

function(give_up what error)
  string(STRIP "${error}" error)
  string(REGEX REPLACE "\n.*" "" error "${error}")
  message(STATUS "tarn serve will have no page with charts: ${what} (${error}). The next run of cmake tries again.")
  file(REMOVE ${PAGE})
  file(TOUCH ${STAMP})
endfunction()

file(READ ${DIRECTORY}/package.json package)
file(READ ${DIRECTORY}/package-lock.json lock)
string(SHA256 wanted "${package}${lock}${WITH_TESTS}")
set(fetched "")
if(EXISTS ${DIRECTORY}/fetched)
  file(READ ${DIRECTORY}/fetched fetched)
endif()
if(NOT fetched STREQUAL wanted)
  set(omit "")
  if(NOT WITH_TESTS)
    set(omit --omit=dev)
  endif()
  # No package runs anything at its installation; what is in npm's cache is not fetched again; and it soon gives up.
  execute_process(
    COMMAND ${NPM} ci --ignore-scripts --no-audit --no-fund --prefer-offline --fetch-retries=1 --fetch-retry-mintimeout=1000
            --fetch-timeout=30000 --loglevel=error ${omit}
    WORKING_DIRECTORY ${DIRECTORY} TIMEOUT 180
    RESULT_VARIABLE result OUTPUT_QUIET ERROR_VARIABLE error)
  if(NOT result EQUAL 0)
    file(REMOVE ${DIRECTORY}/fetched)
    give_up("npm could not get its libraries" "${error}")
    return()
  endif()
  file(WRITE ${DIRECTORY}/fetched ${wanted})
endif()

execute_process(COMMAND ${NODE} bundle.mjs ${PAGE} WORKING_DIRECTORY ${DIRECTORY} TIMEOUT 120
                RESULT_VARIABLE result ERROR_VARIABLE error)
if(NOT result EQUAL 0)
  give_up("it could not be bundled" "${error}")
  return()
endif()
file(TOUCH ${STAMP})
