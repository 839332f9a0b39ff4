# SPDX-License-Identifier: Apache-2.0
#
# tarn_install(): the names of the libraries for users, and what `cmake --install` puts where.
#
# For the root CMakeLists.txt, after the rooms; says nothing while the libraries do not exist.
# The same names serve in the build tree (add_subdirectory) and after find_package(tarn):
#   tarn::tarn          libtarn.so
#   tarn::tarn_static   libtarn.a
#   tarn::monitor       libtarn_monitor.so; installed by tools/monitor, where that is built

function(tarn_install)
  set(targets "")
  foreach(name shared static)
    if(TARGET tarn_${name})
      list(APPEND targets tarn_${name})
      target_include_directories(tarn_${name} INTERFACE
        $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/allocator/include>
        $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
    endif()
  endforeach()
  if(TARGET tarn_shared)
    add_library(tarn::tarn ALIAS tarn_shared)
    set_target_properties(tarn_shared PROPERTIES EXPORT_NAME tarn)
  endif()
  if(TARGET tarn_static)
    add_library(tarn::tarn_static ALIAS tarn_static)
  endif()
  # A sanitizer's build has no library that a program could use, so it installs nothing.
  if(NOT targets OR TARN_SANITIZE)
    return()
  endif()

  include(CMakePackageConfigHelpers)
  set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/tarn)

  install(TARGETS ${targets} EXPORT tarn_targets
          LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
          ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(EXPORT tarn_targets NAMESPACE tarn:: DESTINATION ${package_dir})
  if(EXISTS ${PROJECT_SOURCE_DIR}/allocator/include/tarn)
    install(DIRECTORY ${PROJECT_SOURCE_DIR}/allocator/include/tarn
            DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
            # Of tarn::monitor, which installs it.
            PATTERN monitor.h EXCLUDE)
  endif()

  configure_package_config_file(
    ${PROJECT_SOURCE_DIR}/cmake/tarn-config.cmake.in ${PROJECT_BINARY_DIR}/cmake/tarn-config.cmake
    INSTALL_DESTINATION ${package_dir})
  write_basic_package_version_file(
    ${PROJECT_BINARY_DIR}/cmake/tarn-config-version.cmake COMPATIBILITY SameMinorVersion)
  install(FILES ${PROJECT_BINARY_DIR}/cmake/tarn-config.cmake
                ${PROJECT_BINARY_DIR}/cmake/tarn-config-version.cmake
          DESTINATION ${package_dir})

  tarn_install_pkg_config(tarn)
  tarn_install_pkg_config(tarn-static)
endfunction()

# The file of a name, made of cmake/NAME.pc.in.
function(tarn_install_pkg_config name)
  # These files stand in lib/pkgconfig, and find the prefix from there, so that a tree that was moved
  # still works. The way up has as many steps as the library directory has parts.
  string(REGEX REPLACE "[^/]+" ".." up "${CMAKE_INSTALL_LIBDIR}")
  set(TARN_PC_PREFIX "\${pcfiledir}/../${up}")
  configure_file(${PROJECT_SOURCE_DIR}/cmake/${name}.pc.in ${PROJECT_BINARY_DIR}/cmake/${name}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/cmake/${name}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endfunction()
