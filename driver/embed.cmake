# carry(ARRAY HEADER OUTPUT NAMES PATHS): writes OUTPUT, a C file whose array ARRAY of DrEmbedded, declared in HEADER, holds the bytes of
# the files PATHS under NAMES (two lists of one length, given by their names).
function(carry array header output names paths)
  set(carried)
  set(rows)
  set(index 0)
  foreach(name path IN ZIP_LISTS ${names} ${paths})
    string(APPEND carried "CARRY(${index}, \"${path}\")\n")
    string(APPEND rows "    {\"${name}\", ${array}_${index}_begin, ${array}_${index}_end},\n")
    math(EXPR index "${index} + 1")
  endforeach()
  configure_file(${CMAKE_SOURCE_DIR}/driver/embedded.c.in ${output} @ONLY)
  set_source_files_properties(${output} PROPERTIES OBJECT_DEPENDS "${${paths}}")
endfunction()
