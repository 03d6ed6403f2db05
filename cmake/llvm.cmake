# MOSSC_LLVM_TARGET: what is linked for LLVM. Its shared library, or archives of what mossc uses; their z3 and libxml2 are not among that.
set(MOSSC_LLVM_TARGET LLVM)
if(MOSSC_STATIC_LLVM)
  llvm_map_components_to_libnames(archives X86 AArch64 passes orcjit orcdebugging perfjitevents bitreader bitwriter linker object)
  execute_process(COMMAND ${CMAKE_C_COMPILER} -print-file-name=libstdc++.a OUTPUT_VARIABLE cxx OUTPUT_STRIP_TRAILING_WHITESPACE)
  find_library(MOSSC_ZLIB_ARCHIVE libz.a REQUIRED)
  find_library(MOSSC_ZSTD_ARCHIVE libzstd.a REQUIRED)
  set_target_properties(LLVMSupport PROPERTIES INTERFACE_LINK_LIBRARIES
    "LLVMDemangle;${MOSSC_ZLIB_ARCHIVE};${MOSSC_ZSTD_ARCHIVE};rt;dl;m")
  add_library(mossc_llvm INTERFACE)
  target_link_libraries(mossc_llvm INTERFACE ${archives} ${cxx} -static-libgcc -Wl,--gc-sections m)
  set(MOSSC_LLVM_TARGET mossc_llvm)
endif()
