# Included by llama.cpp's project() call (CMAKE_PROJECT_llama_cpp_INCLUDE). llama-cpp-python forces LLAMA_BUILD_COMMON=ON
# in the cache, yet its wheel contains nothing of that library; a plain variable of the same name shadows the cache
# entry (CMP0126), which halves the compile.
set(LLAMA_BUILD_COMMON OFF)

# The projectors are some fifty small files that spend their compile time on the same headers: joined, they take a tenth.
if(CMAKE_VERSION VERSION_GREATER_EQUAL 3.19)
  function(llamada_join_projectors)
    if(NOT TARGET mtmd)
      return()
    endif()
    get_target_property(folder mtmd SOURCE_DIR)
    get_target_property(others mtmd SOURCES)
    list(FILTER others EXCLUDE REGEX "models/")
    list(TRANSFORM others PREPEND "${folder}/" REGEX "^[^/$]")
    set_source_files_properties(${others} TARGET_DIRECTORY mtmd PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
    set_target_properties(mtmd PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 24)
  endfunction()
  cmake_language(DEFER CALL llamada_join_projectors)
endif()
