# LLVM for a cross build: ARM's library from the sysroot, headers and tools of this machine's LLVM of the same version.
set(LLVM_VERSION_MAJOR ${LLVM_FIND_VERSION_MAJOR})
set(LLVM_INCLUDE_DIRS /usr/lib/llvm-${LLVM_VERSION_MAJOR}/include)
set(LLVM_TOOLS_BINARY_DIR /usr/lib/llvm-${LLVM_VERSION_MAJOR}/bin)
add_library(LLVM SHARED IMPORTED)
set_target_properties(LLVM PROPERTIES
  IMPORTED_LOCATION ${CMAKE_SYSROOT}/usr/lib/aarch64-linux-gnu/libLLVM.so.${LLVM_FIND_VERSION})
