#!/usr/bin/env bash
# Moves the llama.cpp pin to what a release of llama-cpp-python vendors, everywhere at once, and runs the tests.
#
#   scripts/upgrade_llama.sh               to the newest release
#   scripts/upgrade_llama.sh 0.3.40        to this one
#   scripts/upgrade_llama.sh --check [V]   only print what would change
#
# It changes the commit (scripts/llama_source.sh, server/corral/diagnosis.py, the submodule's entry in git), the
# sdist's version and sha256 (requirements/llama-source.txt), the bindings (pyproject.toml, requirements/), then
# runs `make lock` and `make test`. It commits nothing; `git restore --staged --worktree .` takes it back.
#
# The sha256 is that of the file which the package index serves now: whoever commits it vouches for it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PACKAGE=llama-cpp-python
PINS=(scripts/llama_source.sh server/corral/diagnosis.py requirements/llama-source.txt pyproject.toml)

say() { echo "$*" >&2; }
die() { say "error: $1"; shift; [ $# -eq 0 ] || printf '  %s\n' "$@" >&2; exit 1; }

python() { if [ -x .venv/bin/python ]; then .venv/bin/python "$@"; else python3 "$@"; fi; }

download() {
  python -m pip download --quiet --no-deps --no-binary "$PACKAGE" --dest "$1" "$PACKAGE${2:+==$2}" >"$1/pip.log" 2>&1 \
    || { tail -n 5 "$1/pip.log" >&2; die "pip could not fetch $PACKAGE${2:+ $2}"; }
  find "$1" -name '*.tar.gz' | head -n 1
}

sha256_of() { python -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$1"; }

commit_in() {
  local top
  top=$(basename "$1" .tar.gz)
  tar -xzOf "$1" "$top/.git/modules/vendor/llama.cpp/HEAD" 2>/dev/null || die "$(basename "$1") does not say which llama.cpp it carries."
}

# replace <old> <new> <file>: every occurrence, and there must be one.
replace() {
  grep -qF "$1" "$3" || die "$3 does not name $1; the pins have come apart." "Mend it by hand: git diff -- ${PINS[*]}"
  python - "$@" <<'PYTHON'
import pathlib
import sys

old, new, name = sys.argv[1:]
path = pathlib.Path(name)
path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
PYTHON
}

move_submodule() {
  git update-index --cacheinfo "160000,$1,llama.cpp"
  # Not checked out: the entry is all there is.
  [ -e llama.cpp/.git ] || return 0
  git -C llama.cpp fetch --depth 1 origin "$1" && git -C llama.cpp checkout --quiet "$1"
}

CHECK=
if [ "${1:-}" = --check ]; then CHECK=1; shift; fi
[ $# -le 1 ] || die "one version at most; found: $*"
case ${1:-} in *[!0-9.]*) die "unknown argument '$1'; allowed: --check, a version of $PACKAGE such as 0.3.40" ;; esac

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
OLD_VERSION=$(sed -n "s/^$PACKAGE==\([^ ]*\) .*/\1/p" requirements/llama-source.txt)
OLD_SHA256=$(sed -n 's/.*--hash=sha256:\([0-9a-f]*\).*/\1/p' requirements/llama-source.txt)
OLD_COMMIT=$(scripts/llama_source.sh --commit)
SDIST=$(download "$WORK" "${1:-}")
SHA256=$(sha256_of "$SDIST")
COMMIT=$(commit_in "$SDIST")
VERSION=$(basename "$SDIST" .tar.gz)
VERSION=${VERSION##*-}

printf '%-10s %s -> %s\n' "$PACKAGE" "$OLD_VERSION" "$VERSION" llama.cpp "$OLD_COMMIT" "$COMMIT" sha256 "$OLD_SHA256" "$SHA256"
if [ "$COMMIT" = "$OLD_COMMIT" ] && [ "$SHA256" = "$OLD_SHA256" ]; then say "nothing to do"; exit; fi
[ -z "$CHECK" ] || exit 0
[ -z "$(git status --porcelain -- "${PINS[@]}")" ] || die "there are changes in the files that hold the pins." "Commit them or put them aside first: git stash -- ${PINS[*]}"
replace "$OLD_COMMIT" "$COMMIT" scripts/llama_source.sh
replace "$OLD_COMMIT" "$COMMIT" server/corral/diagnosis.py
replace "$OLD_VERSION" "$VERSION" requirements/llama-source.txt
replace "$OLD_SHA256" "$SHA256" requirements/llama-source.txt
replace "$PACKAGE==$OLD_VERSION" "$PACKAGE==$VERSION" pyproject.toml
move_submodule "$COMMIT"
make lock
make test
say "the pin is $COMMIT now, and the tests pass. Read upstream's changes to what we rely on, then commit."
