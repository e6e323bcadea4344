# What an application finds after `cmake --install`: the library, two headers, find_package(seggd) and pkg-config.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS seggd EXPORT seggd
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY include/seggd DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/seggd)
install(EXPORT seggd NAMESPACE seggd:: FILE seggdTargets.cmake DESTINATION ${package_folder})
configure_package_config_file(cmake/seggdConfig.cmake.in seggdConfig.cmake INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(seggdConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/seggdConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/seggdConfigVersion.cmake
  DESTINATION ${package_folder})

if(BUILD_SHARED_LIBS)
  set(pkgconfig_cflags "")
  set(pkgconfig_requires "")
  set(pkgconfig_libs "")
else()
  set(pkgconfig_cflags " -DSEGGD_STATIC")
  set(pkgconfig_requires "libcrypto")
  set(pkgconfig_libs " -lstdc++ -lm -ldl -pthread")
  if(SEGGD_CUDA)
    string(PREPEND pkgconfig_libs " -L${CUDAToolkit_LIBRARY_DIR} -lcudart_static -lrt")
  endif()
endif()
configure_file(cmake/seggd.pc.in seggd.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/seggd.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
