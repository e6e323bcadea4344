# Installs into a folder of its own, then builds c11.c against it by find_package and by pkg-config, and runs both.
set(prefix ${BUILD}/installed)
file(REMOVE_RECURSE ${prefix} ${BUILD}/consumer)

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE failed OUTPUT_VARIABLE said ERROR_VARIABLE said)
  if(failed)
    message(FATAL_ERROR "${ARGV}\n${said}")
  endif()
  set(said "${said}" PARENT_SCOPE)
endfunction()

run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})
run(${CMAKE_COMMAND} -S ${SOURCE} -B ${BUILD}/consumer -DCMAKE_PREFIX_PATH=${prefix} -DCMAKE_C_COMPILER=${CC}
  -DCMAKE_CXX_COMPILER=${CXX})
run(${CMAKE_COMMAND} --build ${BUILD}/consumer)
run(${BUILD}/consumer/consumer ${BUNDLE} ${ONNXRUNTIME_LIBRARY})

# The folder is not where the configured prefix says; pkg-config is told so.
set(ENV{PKG_CONFIG_PATH} ${prefix}/${LIBDIR}/pkgconfig)
run(pkg-config --define-variable=prefix=${prefix} --cflags --libs seggd)
separate_arguments(flags UNIX_COMMAND "${said}")
run(${CC} -std=c11 ${SOURCE}/../c11.c ${flags} -Wl,-rpath,${prefix}/${LIBDIR} -o ${BUILD}/consumer/by_pkgconfig)
run(${BUILD}/consumer/by_pkgconfig ${BUNDLE} ${ONNXRUNTIME_LIBRARY})
