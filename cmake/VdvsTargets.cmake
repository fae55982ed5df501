# How a target of this project is made: one place for warnings, sanitizers, and how tests and fuzzers are found.

add_library(vdvs_flags INTERFACE)
target_compile_options(vdvs_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Werror
  -fno-omit-frame-pointer)
target_include_directories(vdvs_flags INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_definitions(vdvs_flags INTERFACE VDVS_VERSION="${PROJECT_VERSION}" FMT_DEPRECATED_OSTREAM)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_compile_options(vdvs_flags INTERFACE -Wthread-safety -Wno-missing-designated-field-initializers)
else()
  target_compile_options(vdvs_flags INTERFACE -Wno-missing-field-initializers)  # designated initialisers leave members out
endif()
if(VDVS_SANITIZE)
  target_compile_options(vdvs_flags INTERFACE -fsanitize=${VDVS_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(vdvs_flags INTERFACE -fsanitize=${VDVS_SANITIZE})
endif()
if(VDVS_FUZZ)
  target_compile_options(vdvs_flags INTERFACE -fsanitize=fuzzer-no-link)
  target_link_options(vdvs_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

# vdvs_library(NAME SOURCES ... HEADERS ... PUBLIC ... PRIVATE ...): PUBLIC links are the layers.
function(vdvs_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;HEADERS;PUBLIC;PRIVATE" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_sources(${name} PUBLIC FILE_SET HEADERS BASE_DIRS ${CMAKE_SOURCE_DIR} FILES ${ARG_HEADERS})
  target_link_libraries(${name} PUBLIC ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE} vdvs_flags)
endfunction()

# vdvs_test(NAME LABEL unit|kernel [THREADS] SOURCES ... LINKS ...): a GoogleTest program; each of its tests is a ctest. THREADS: what it tests
# has threads or locks, so the thread sanitizer looks at it, and at no other.
add_custom_target(threaded_tests)
function(vdvs_test name)
  cmake_parse_arguments(ARG "THREADS" "LABEL" "SOURCES;LINKS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINKS} vdvs_flags GTest::gtest GTest::gmock GTest::gtest_main)
  target_compile_options(${name} PRIVATE -O0)  # half the time of a build, and what is tested is in the libraries
  if(ARG_THREADS)
    add_dependencies(threaded_tests ${name})
    string(APPEND ARG_LABEL "-threads")  # one label: gtest_discover_tests takes no list
  endif()
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 PROPERTIES LABELS "${ARG_LABEL}" TIMEOUT 300)
endfunction()

# vdvs_fuzzer(NAME SOURCES ... LINKS ... CORPUS folder): with VDVS_FUZZ, a libFuzzer program that runs for a while as a ctest; always, its
# corpus is replayed.
set(VDVS_FUZZ_SECONDS 10 CACHE STRING "How long each fuzzer runs as a test")
function(vdvs_fuzzer name)
  cmake_parse_arguments(ARG "" "CORPUS" "SOURCES;LINKS" ${ARGN})
  if(NOT VDVS_FUZZ)
    return()
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINKS} vdvs_flags)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  set(scratch ${CMAKE_CURRENT_BINARY_DIR}/${name}.corpus)
  file(MAKE_DIRECTORY ${scratch})
  add_test(NAME fuzz.${name} COMMAND ${name} -max_total_time=${VDVS_FUZZ_SECONDS} -timeout=10 -rss_limit_mb=2048
    -print_final_stats=1 ${scratch} ${ARG_CORPUS})
  set_tests_properties(fuzz.${name} PROPERTIES LABELS fuzz TIMEOUT 300)
endfunction()
include(GoogleTest)
