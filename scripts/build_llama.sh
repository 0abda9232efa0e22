#!/usr/bin/env bash
# Builds the llama.cpp programs that Corral uses. The only home of cmake flags, for hosts and images alike.
#
#   scripts/build_llama.sh                  for this machine
#   BACKEND=cuda scripts/build_llama.sh     cpu | cuda | metal | vulkan
#   scripts/build_llama.sh --dry-run        print the exact commands, change nothing
#
# Leaves build/llama/<backend>/bin and build-info.json, and points build/llama/current at the last build.
# The programs find their libraries beside themselves, so bin/ may be copied anywhere as a whole.
#
# Environment (all optional):
#   BACKEND=…               default: metal on macOS, cuda where nvcc and a GPU answer, else cpu
#   JOBS=n                  compilers at once; default: one per core
#   NATIVE=ON|OFF           code for this very processor; default ON
#   GGML_BACKEND_DL=ON      backends as loadable modules (images); with GGML_CPU_ALL_VARIANTS=ON, one per CPU family
#   CUDA_ARCHITECTURES=…    such as "80;90"; default: the GPU in this machine, with NATIVE=OFF the list below
#   PREFIX=DIR              also copy bin/ and build-info.json there
#
# bash 3.2 is enough (macOS). A second call with nothing to do returns at once; two calls at once take turns.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/.." && pwd)
TARGETS="llama-app llama-server llama-cli llama-completion llama-quantize llama-imatrix llama-perplexity
llama-finetune llama-export-lora llama-gguf-split llama-fit-params llama-bench llama-batched-bench
llama-tokenize llama-embedding"
# llama.cpp's own cmake_minimum_required; CUDA's architecture list came with 3.18.
CMAKE_MIN_MINOR=14
# Measured: 66 MB of build and 176 MB of source on Linux; the sdist takes 77 MB more while it is unpacked.
NEED_MB=200
NEED_SOURCE_MB=400
NEED_CUDA_MB=3000
# CUDA for other machines, by compute capability. Machine code for the GPUs in use: 80 A100, A30; 86 A10,
# RTX 30; 89 L4, L40, RTX 40; 90 H100, H200; 120a RTX 50. PTX, which the driver compiles at the first
# start, for the rest: of 75 for T4 and RTX 20, of 90 for B200. CUDA 13 knows nothing below 75.
PORTABLE_ARCHITECTURES="75-virtual;80-real;86-real;89-real;90;120a-real"
DRY_RUN=

say() { echo "$*" >&2; }
die() { say "error: $1"; shift; [ $# -eq 0 ] || printf '  %s\n' "$@" >&2; exit 1; }

# The command that installs a package here: install_with <apt name> <brew name>
install_with() {
  if [ "$(uname -s)" = Darwin ]; then echo "brew install $2"
  elif command -v apt-get >/dev/null; then echo "sudo apt-get install $1"
  else echo "install '$1' (Debian's name) with your package manager"; fi
}

find_nvcc() {
  local standard=${CUDA_HOME:-/usr/local/cuda}/bin/nvcc
  command -v nvcc || { [ -x "$standard" ] && echo "$standard"; }
}

detect_backend() {
  if [ "$(uname -s)" = Darwin ]; then echo metal
  elif find_nvcc >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then echo cuda
  else echo cpu; fi
}

check_compiler() {
  COMPILER=$("${CXX:-c++}" --version 2>/dev/null | head -n 1) || COMPILER=
  [ -n "$COMPILER" ] && return
  if [ "$(uname -s)" = Darwin ]; then die "no C++ compiler answers to '${CXX:-c++}'." "Mend it with: xcode-select --install"; fi
  die "no C++ compiler answers to '${CXX:-c++}'." "Mend it with: $(install_with g++ gcc)"
}

set_path_map() {
  PATH_MAP=" -ffile-prefix-map=$ROOT=."
  # GCC before 8 and clang before 10 do not know it.
  # shellcheck disable=SC2086  # one word, and a blank before it
  "${CXX:-c++}" $PATH_MAP -E -x c++ /dev/null >/dev/null 2>&1 || PATH_MAP=
}

check_cmake() {
  local version major minor mend
  mend="Mend it with: $(install_with cmake cmake)   (or: .venv/bin/pip install cmake)"
  command -v cmake >/dev/null || die "cmake is missing; llama.cpp needs 3.$CMAKE_MIN_MINOR or newer." "$mend"
  version=$(cmake --version | sed -n '1s/.* \([0-9][0-9.]*\).*/\1/p')
  major=${version%%.*}
  minor=${version#*.}
  minor=${minor%%.*}
  if [ "$major" -lt 3 ] || { [ "$major" -eq 3 ] && [ "$minor" -lt "$CMAKE_MIN_MINOR" ]; }; then
    die "cmake $version is too old; llama.cpp with BACKEND=$BACKEND needs 3.$CMAKE_MIN_MINOR or newer." "$mend"
  fi
  CMAKE_VERSION=$version
}

check_backend_tools() {
  case $BACKEND in
    cuda)
      NVCC=$(find_nvcc) || die "BACKEND=cuda needs the CUDA compiler nvcc, and there is none on the PATH or in ${CUDA_HOME:-/usr/local/cuda}." \
        "Mend it with: $(install_with nvidia-cuda-toolkit none), or build for the processor: BACKEND=cpu"
      COMPILER="$COMPILER; nvcc $("$NVCC" --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')" ;;
    metal)
      [ "$(uname -s)" = Darwin ] || die "BACKEND=metal builds on macOS only; this is $(uname -s)." "Mend it: BACKEND=cpu, cuda or vulkan" ;;
    vulkan)
      command -v glslc >/dev/null || die "BACKEND=vulkan needs the shader compiler glslc." \
        "Mend it with: $(install_with 'libvulkan-dev glslc spirv-headers' 'vulkan-loader shaderc')" ;;
  esac
}

check_space() {
  local need=$NEED_MB free
  [ "$BACKEND" = cuda ] && need=$NEED_CUDA_MB
  [ -d "$("$HERE/llama_source.sh" --path)" ] || need=$((need + NEED_SOURCE_MB))
  free=$(df -Pk "$ROOT" | awk 'NR == 2 { print int($4 / 1024) }')
  [ "$free" -ge "$need" ] || die "not enough disk space in $ROOT for BACKEND=$BACKEND." \
    "needed: $need MB" "free:   $free MB" "Mend it: free the difference, or clone onto a larger disk."
}

# What -march=native means here. A build from another processor must neither be run nor come out of
# ccache, which sees only the word "native" and would hand over code this machine cannot execute.
processor() {
  local native=
  if [ "$NATIVE" = ON ]; then
    native=$(cd / && "${CXX:-c++}" -march=native '-###' -E -x c /dev/null 2>&1 | grep cc1 | sed 's/--param [^ ]*//g') || true
  fi
  printf '%s %s' "$(uname -m)" "$native" | cksum | tr ' ' -
}

set_flags() {
  local commit
  commit=$("$HERE/llama_source.sh" --commit)
  set -- -DCMAKE_BUILD_TYPE=Release -DCMAKE_BUILD_RPATH_USE_ORIGIN=ON \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=ON -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF \
    -DLLAMA_OPENSSL=ON -DLLAMA_BUILD_COMMIT="${commit:0:9}" -DLLAMA_BUILD_NUMBER=0 \
    -DGGML_CCACHE=ON -DGGML_NATIVE="$NATIVE" \
    -DGGML_CUDA="$(on_for cuda)" -DGGML_METAL="$(on_for metal)" -DGGML_VULKAN="$(on_for vulkan)"
  if [ "$BACKEND" = cuda ]; then
    set -- "$@" -DCMAKE_CUDA_COMPILER="$NVCC"
    [ "$NATIVE" = ON ] || CUDA_ARCHITECTURES=${CUDA_ARCHITECTURES:-$PORTABLE_ARCHITECTURES}
  fi
  [ -n "${CUDA_ARCHITECTURES:-}" ] && set -- "$@" -DCMAKE_CUDA_ARCHITECTURES="$CUDA_ARCHITECTURES"
  [ -n "${GGML_BACKEND_DL:-}" ] && set -- "$@" -DGGML_BACKEND_DL="$GGML_BACKEND_DL"
  [ -n "${GGML_CPU_ALL_VARIANTS:-}" ] && set -- "$@" -DGGML_CPU_ALL_VARIANTS="$GGML_CPU_ALL_VARIANTS"
  FLAGS=("$@")
  STAMP=$(printf '%s\n' "$commit" "$BACKEND" "$COMPILER" "$(processor)" "$@")
  COMMIT=$commit
}

on_for() { if [ "$BACKEND" = "$1" ]; then echo ON; else echo OFF; fi; }

program_of() { if [ "$1" = llama-app ]; then echo llama; else echo "$1"; fi; }

is_built() {
  local target
  [ -f "$DIR/build-info.json" ] && [ "$(cat "$DIR/.stamp" 2>/dev/null)" = "$STAMP" ] || return 1
  for target in $TARGETS; do [ -x "$DIR/bin/$(program_of "$target")" ] || return 1; done
}

finish() {
  local current=$ROOT/build/llama/current
  [ "$(readlink "$current" 2>/dev/null)" = "$BACKEND" ] || ln -sfn "$BACKEND" "$current"
  [ -z "${PREFIX:-}" ] && return
  mkdir -p "$PREFIX/bin"
  cp -R -P "$DIR/bin/." "$PREFIX/bin/"
  cp "$DIR/build-info.json" "$PREFIX/"
}

lock() {
  exec 9>"$ROOT/build/llama/.lock"
  if ! command -v flock >/dev/null; then python3 -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
  elif ! flock -n 9; then say "another build runs in this tree; waiting for it"; flock 9; fi
}

run() { if [ -n "$DRY_RUN" ]; then printf '%q ' "$@"; echo; else "$@"; fi; }

# A folder configured for another source or generator cannot be reused: cmake would refuse it.
drop_foreign_cache() {
  local cache=$DIR/CMakeCache.txt
  [ -f "$cache" ] || return 0
  if ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$SOURCE" "$cache" \
      || ! grep -qxF "CMAKE_GENERATOR:INTERNAL=$GENERATOR" "$cache"; then rm -rf "$DIR"; fi
}

configure() {
  # An empty one is an error to CMake, hence -U. Kept out of FLAGS, which are written down: it names a folder of this machine.
  local include=-UCMAKE_PROJECT_llama.cpp_INCLUDE
  if [ "${GGML_BACKEND_DL:-}" = ON ]; then include=-DCMAKE_PROJECT_llama.cpp_INCLUDE=$HERE/cmake/export_lora.cmake; fi
  # Without the ceiling git would find Corral's own repository above an unpacked source, and the
  # commit of every change to Corral would be compiled into ggml. Paths are mapped so that __FILE__
  # names no folder of this machine; ccache then finds another clone's results too.
  run env GIT_CEILING_DIRECTORIES="$ROOT/build/src" CFLAGS="${CFLAGS:-}$PATH_MAP" CXXFLAGS="${CXXFLAGS:-}$PATH_MAP" \
    cmake -S "$SOURCE" -B "$DIR" -G "$GENERATOR" "$include" "${FLAGS[@]}"
}

# An older pin has libcurl as a real option; there cmake itself stops when it is missing.
add_curl_if_real() {
  if grep -q 'option(LLAMA_CURL' "$SOURCE/CMakeLists.txt" 2>/dev/null; then FLAGS+=(-DLLAMA_CURL=ON); fi
}

has_https() { grep -q 'OpenSSL found' "$LOG" || grep -q '^LLAMA_CURL:BOOL=ON' "$DIR/CMakeCache.txt"; }

fail_with_log() {
  say
  tail -n 15 "$LOG" >&2
  die "$1" "The full log is $LOG"
}

# Reads a build's output on stdin, keeps all of it in the log, shows how far it is: one line that
# renews itself on a terminal, elsewhere a line every 10%.
show_progress() {
  local line percent shown=-1 start=$SECONDS
  while IFS= read -r line; do
    printf '%s\n' "$line" >>"$LOG"
    case $line in
      \[*/*\]*) percent=${line#[}; percent=${percent%%]*}; percent=$((${percent%/*} * 100 / ${percent#*/})) ;;
      \[*%\]*) percent=${line#[}; percent=$((${percent%%%*})) ;;
      *) continue ;;
    esac
    if [ -t 2 ]; then printf '\rllama.cpp (%s): %3d%%  %ds ' "$BACKEND" "$percent" "$((SECONDS - start))" >&2
    elif [ "$((percent / 10))" -gt "$shown" ]; then
      shown=$((percent / 10))
      say "llama.cpp ($BACKEND): $percent%  $((SECONDS - start))s"
    fi
  done
  if [ -t 2 ]; then say; fi
}

compile() {
  # shellcheck disable=SC2086  # one word per target
  run cmake --build "$DIR" --parallel "$JOBS" --target $TARGETS
}

write_build_info() {
  local flags
  flags=$(printf '"%s", ' "${FLAGS[@]}")
  cat >"$DIR/build-info.json" <<JSON
{"commit": "$COMMIT", "backend": "$BACKEND", "compiler": "${COMPILER//\"/}", "cmake": "$CMAKE_VERSION",
 "generator": "$GENERATOR", "seconds": $1, "source": "$(basename "$SOURCE")", "flags": [${flags%, }]}
JSON
  printf '%s\n' "$STAMP" >"$DIR/.stamp"
}

build() {
  local start=$SECONDS
  export CCACHE_BASEDIR=$ROOT CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=locale CCACHE_NAMESPACE
  CCACHE_NAMESPACE=corral-$(processor)
  SOURCE=$("$HERE/llama_source.sh")
  add_curl_if_real
  drop_foreign_cache
  mkdir -p "$DIR"
  rm -f "$DIR/.stamp"
  say "llama.cpp ${COMMIT:0:9}: building for $BACKEND with $JOBS jobs; log: $LOG"
  configure >"$LOG" 2>&1 || fail_with_log "cmake could not configure llama.cpp."
  has_https || die "this build could not download models: llama.cpp found no OpenSSL 3 (headers and libraries), so no HTTPS." \
    "Mend it with: $(install_with libssl-dev openssl@3)" "The full log is $LOG"
  compile 2>&1 | show_progress || fail_with_log "the compiler stopped."
  write_build_info $((SECONDS - start))
  say "llama.cpp ${COMMIT:0:9}: built for $BACKEND in $((SECONDS - start)) s"
}

dry_run() {
  SOURCE=$("$HERE/llama_source.sh" --path)
  add_curl_if_real
  configure
  compile
}

case ${1:-} in
  "") ;;
  --dry-run) DRY_RUN=1 ;;
  *) sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; die "unknown argument '$1'; allowed: --dry-run" ;;
esac
BACKEND=${BACKEND:-$(detect_backend)}
case $BACKEND in
  cpu | metal | vulkan) ;;
  cuda) CMAKE_MIN_MINOR=18 ;;
  *) die "unknown BACKEND '$BACKEND'." "Allowed: cpu, cuda, metal, vulkan (or none: this machine's own)" ;;
esac
JOBS=${JOBS:-$(getconf _NPROCESSORS_ONLN)}
NATIVE=${NATIVE:-ON}
DIR=$ROOT/build/llama/$BACKEND
LOG=$ROOT/build/llama/$BACKEND.log
GENERATOR="Unix Makefiles"
if command -v ninja >/dev/null; then GENERATOR=Ninja; fi

check_compiler
check_cmake
check_backend_tools
set_path_map
set_flags
if [ -n "$DRY_RUN" ]; then dry_run; exit; fi
mkdir -p "$ROOT/build/llama"
if ! is_built; then
  lock
  if ! is_built; then
    check_space
    build
  fi
fi
finish
