# Only the version that lies in the sysroot will do.
file(GLOB library ${CMAKE_SYSROOT}/usr/lib/aarch64-linux-gnu/libLLVM.so.*.*)
string(REGEX REPLACE "^.*libLLVM[.]so[.]" "" PACKAGE_VERSION "${library}")
if(PACKAGE_VERSION VERSION_EQUAL PACKAGE_FIND_VERSION)
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
  set(PACKAGE_VERSION_EXACT TRUE)
endif()
