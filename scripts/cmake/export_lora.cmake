# llama-export-lora for builds whose backends are modules; build_llama.sh has llama.cpp's project() include it.
# Upstream leaves the program out of those (tools/CMakeLists.txt), for it calls two functions of the processor's
# backend directly; cpu_module.cpp fetches the two from the module that was loaded.
add_executable(llama-export-lora tools/export-lora/export-lora.cpp ${CMAKE_CURRENT_LIST_DIR}/cpu_module.cpp)
target_link_libraries(llama-export-lora PRIVATE llama-common llama)
target_compile_features(llama-export-lora PRIVATE cxx_std_17)
# llama.cpp sets its own place for programs only after this.
set_target_properties(llama-export-lora PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
