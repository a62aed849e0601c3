# Included by llama.cpp's project() call (CMAKE_PROJECT_llama_cpp_INCLUDE). llama-cpp-python forces LLAMA_BUILD_COMMON=ON
# in the cache, yet its wheel contains nothing of that library; a plain variable of the same name shadows the cache
# entry (CMP0126), which halves the compile.
set(LLAMA_BUILD_COMMON OFF)
