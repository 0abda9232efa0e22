#!/usr/bin/env bash
# Finds or fetches the pinned llama.cpp source and prints its folder (the last line of stdout).
#
#   scripts/llama_source.sh            make sure the source is there, print its folder
#   scripts/llama_source.sh --path     print where it is or would be; fetches nothing
#   scripts/llama_source.sh --commit   print the pinned commit
#
# Tried in this order: the llama.cpp/ submodule when checked out; what an earlier call unpacked under
# build/src/; `git submodule update`; the sdist named in requirements/llama-source.txt.
# Only a tree of the pinned commit is ever printed. bash 3.2 is enough (macOS).
set -euo pipefail

LLAMA_COMMIT=0c1e57098bba43ac29e6e3b677cdceebdd22334f
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
SUBMODULE=$ROOT/llama.cpp
UNPACKED=$ROOT/build/src/llama.cpp-${LLAMA_COMMIT:0:12}
REQUIREMENT=$ROOT/requirements/llama-source.txt
GIT_PROBE_SECONDS=10
GIT_FETCH_SECONDS=300

say() { echo "$*" >&2; }
die() { say "error: $1"; shift; [ $# -eq 0 ] || printf '  %s\n' "$@" >&2; exit 1; }

# Runs a command in a process group of its own and ends the whole group after $1 seconds.
bounded() {
  local seconds=$1 job watchdog status=0
  shift
  set -m
  "$@" </dev/null & job=$!
  { sleep "$seconds"; kill -TERM -- "-$job"; } >/dev/null 2>&1 & watchdog=$!
  set +m
  # Ctrl-C does not reach another process group by itself.
  trap 'kill -TERM -- "-$job" "-$watchdog"; exit 130' INT TERM
  wait "$job" 2>/dev/null || status=$?
  trap - INT TERM
  kill -TERM -- "-$watchdog" 2>/dev/null || true
  wait "$watchdog" 2>/dev/null || true
  return "$status"
}

submodule_present() { [ -f "$SUBMODULE/CMakeLists.txt" ]; }

check_submodule() {
  local found
  found=$(git -C "$SUBMODULE" rev-parse HEAD 2>/dev/null || echo unknown)
  [ "$found" = "$LLAMA_COMMIT" ] || die "llama.cpp/ is at another commit than this tree is pinned to." \
    "pinned: $LLAMA_COMMIT" \
    "found:  $found" \
    "Mend it with: git submodule update --init llama.cpp"
}

# Fails, within bounded time and without a prompt, where git or the network cannot deliver.
try_submodule() {
  local url
  command -v git >/dev/null || return 1
  [ "$(git -C "$ROOT" ls-files -s llama.cpp 2>/dev/null | cut -c1-6)" = 160000 ] || return 1
  url=$(git -C "$ROOT" config -f .gitmodules submodule.llama.cpp.url) || return 1
  export GIT_TERMINAL_PROMPT=0
  say "llama.cpp source: asking $url"
  bounded "$GIT_PROBE_SECONDS" git ls-remote "$url" HEAD >/dev/null 2>&1 || return 1
  bounded "$GIT_FETCH_SECONDS" git -C "$ROOT" submodule update --init --depth 1 llama.cpp >&2 || return 1
  submodule_present
}

python() {
  if [ -x "$ROOT/.venv/bin/python" ]; then "$ROOT/.venv/bin/python" "$@"; else python3 "$@"; fi
}

sha256_of() {
  python -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$1"
}

# pip checks the hash before it runs any of the sdist's code; it is checked again here, so that a
# pip that was configured otherwise cannot slip another file in.
download_sdist() {
  local into=$1 wanted found
  wanted=$(sed -n 's/.*--hash=sha256:\([0-9a-f]*\).*/\1/p' "$REQUIREMENT")
  say "llama.cpp source: git cannot deliver it; taking the same commit out of the PyPI sdist (77 MB)"
  if ! python -m pip download --quiet --no-deps --no-binary llama-cpp-python --require-hashes \
      --dest "$into" --requirement "$REQUIREMENT" >"$into/pip.log" 2>&1; then
    tail -n 12 "$into/pip.log" >&2
    die "pip could not fetch $(sed -n '/==/s/ .*//p' "$REQUIREMENT")" \
      "Mend it: check the network, or get the source by hand: git submodule update --init llama.cpp"
  fi
  SDIST=$(find "$into" -name '*.tar.gz' | head -n 1)
  [ -n "$SDIST" ] || die "pip left no .tar.gz in $into; see $REQUIREMENT"
  found=$(sha256_of "$SDIST")
  [ "$found" = "$wanted" ] || die "$(basename "$SDIST") is not the file this tree is pinned to." \
    "pinned sha256: $wanted" \
    "found sha256:  $found" \
    "Mend it with: pip cache purge, then try again; if it stays, the package index serves another file."
}

# The tree appears under its final name in one rename, after every check: a kill leaves only a .tmp folder.
unpack_sdist() {
  local tmp=$1 top found
  top=$(basename "$SDIST" .tar.gz)
  tar -xzf "$SDIST" -C "$tmp" --no-same-owner \
    "$top/vendor/llama.cpp" "$top/.git/modules/vendor/llama.cpp/HEAD" 2>"$tmp/tar.log" \
    || die "cannot unpack $(basename "$SDIST"): $(tail -n 1 "$tmp/tar.log")"
  found=$(cat "$tmp/$top/.git/modules/vendor/llama.cpp/HEAD")
  [ "$found" = "$LLAMA_COMMIT" ] || die "$(basename "$SDIST") carries another llama.cpp than this tree is pinned to." \
    "pinned: $LLAMA_COMMIT" \
    "found:  $found" \
    "Mend it: LLAMA_COMMIT in scripts/llama_source.sh and requirements/llama-source.txt must name the same release."
  rm -f "$tmp/$top/vendor/llama.cpp/.git"
  mv "$tmp/$top/vendor/llama.cpp" "$UNPACKED"
}

lock() {
  exec 8>"$ROOT/build/src/.lock"
  if command -v flock >/dev/null; then flock 8; else python -c 'import fcntl; fcntl.flock(8, fcntl.LOCK_EX)'; fi
}

fetch_sdist() {
  local tmp
  mkdir -p "$ROOT/build/src"
  lock
  [ -d "$UNPACKED" ] && return
  rm -rf "$ROOT"/build/src/.tmp.*
  tmp=$(mktemp -d "$ROOT/build/src/.tmp.XXXXXX")
  # shellcheck disable=SC2064  # the name must be the one of now
  trap "rm -rf '$tmp'" EXIT
  download_sdist "$tmp"
  unpack_sdist "$tmp"
}

case ${1:-} in
  --commit) echo "$LLAMA_COMMIT"; exit ;;
  --path) if submodule_present; then echo "$SUBMODULE"; else echo "$UNPACKED"; fi; exit ;;
  "") ;;
  *) die "unknown argument '$1'; allowed: --path, --commit" ;;
esac

if submodule_present || { [ ! -d "$UNPACKED" ] && try_submodule; }; then
  check_submodule
  echo "$SUBMODULE"
else
  [ -d "$UNPACKED" ] || fetch_sdist
  echo "$UNPACKED"
fi
