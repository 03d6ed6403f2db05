# libmossc and libmoss: what include/mossc/ declares, as libraries to be installed. libmossc holds all of it; libmoss the runtime alone,
# which needs no LLVM. A program links one of them. BUILD_SHARED_LIBS says whether they are shared (the default) or static.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(moss_rooms mossc_support mossc_quant mossc_device mossc_gpu mossc_runtime mossc_device_tokenizer)
set(mossc_rooms ${moss_rooms} mossc_ir mossc_frontend mossc_passes mossc_schedule mossc_codegen mossc_cuda mossc_tokenizer mossc_driver
  mossc_import)

# mossc_add_objects(TARGET ROOM…): the objects of these rooms become part of it.
function(mossc_add_objects target)
  foreach(room ${ARGN})
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:${room}>)
  endforeach()
  target_link_options(${target} PRIVATE -Wl,--exclude-libs,ALL)
endfunction()

# mossc_link_whole(TARGET): all of libmossc becomes part of it, and what that needs is linked.
function(mossc_link_whole target)
  mossc_add_objects(${target} ${mossc_rooms})
  target_link_libraries(${target} PRIVATE PkgConfig::YAML PkgConfig::CJSON PkgConfig::PCRE2 PkgConfig::UTF8PROC Threads::Threads
    ${CMAKE_DL_LIBS} m)
  if(MOSSC_LLVM)
    target_link_libraries(${target} PRIVATE ${MOSSC_LLVM_TARGET})
  endif()
endfunction()

# mossc_public_library(NAME): the library libNAME; the target is NAME_library, which has no objects yet.
function(mossc_public_library name)
  add_library(${name}_library)
  set_target_properties(${name}_library PROPERTIES OUTPUT_NAME ${name} EXPORT_NAME ${name} LINKER_LANGUAGE C VERSION ${PROJECT_VERSION}
    SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR} INSTALL_RPATH_USE_LINK_PATH ON)
  target_include_directories(${name}_library INTERFACE $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  if(NOT MOSSC_SANITIZE)
    target_link_options(${name}_library PRIVATE -Wl,--no-undefined)
  endif()
  add_library(Mossc::${name} ALIAS ${name}_library)
endfunction()

mossc_public_library(moss)
mossc_add_objects(moss_library ${moss_rooms})
target_link_libraries(moss_library PRIVATE PkgConfig::CJSON Threads::Threads ${CMAKE_DL_LIBS} m)
mossc_public_library(mossc)
mossc_link_whole(mossc_library)
if(MOSSC_LLVM)
  set(MOSSC_LLVM_LIBS "-L${LLVM_LIBRARY_DIRS} -lLLVM")
endif()

install(TARGETS mossc RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
# What mossc tells shells and man of itself; a cross build needs its emulator for that, and goes without.
install(CODE "
  set(mossc ${CMAKE_CROSSCOMPILING_EMULATOR} \"$<TARGET_FILE:mossc>\")
  set(shell \"${CMAKE_CURRENT_BINARY_DIR}/shell\")
  set(data \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_DATADIR}\")
  file(REMOVE_RECURSE \"\${shell}\")
  file(MAKE_DIRECTORY \"\${shell}\")
  execute_process(COMMAND \${mossc} completion bash OUTPUT_FILE \"\${shell}/mossc\" RESULT_VARIABLE status)
  execute_process(COMMAND \${mossc} completion zsh OUTPUT_FILE \"\${shell}/_mossc\")
  execute_process(COMMAND \${mossc} completion fish OUTPUT_FILE \"\${shell}/mossc.fish\")
  execute_process(COMMAND \${mossc} man -o \"\${shell}/man1\")
  if(status EQUAL 0)
    file(INSTALL \"\${shell}/mossc\" DESTINATION \"\${data}/bash-completion/completions\")
    file(INSTALL \"\${shell}/_mossc\" DESTINATION \"\${data}/zsh/site-functions\")
    file(INSTALL \"\${shell}/mossc.fish\" DESTINATION \"\${data}/fish/vendor_completions.d\")
    file(INSTALL \"\${shell}/man1\" DESTINATION \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_MANDIR}\")
  else()
    message(WARNING \"mossc does not run here: completion and manual pages are not installed\")
  endif()
")
install(TARGETS moss_library mossc_library EXPORT MosscTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES include/mossc/moss.h include/mossc/mossc.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/mossc)
foreach(name moss mossc)
  configure_file(cmake/${name}.pc.in ${name}.pc @ONLY)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/${name}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/Mossc)
install(EXPORT MosscTargets NAMESPACE Mossc:: DESTINATION ${package})
configure_package_config_file(cmake/MosscConfig.cmake.in MosscConfig.cmake INSTALL_DESTINATION ${package})
write_basic_package_version_file(MosscConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/MosscConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/MosscConfigVersion.cmake DESTINATION ${package})
