"""A clone in which the build scripts run over fake tools: no compiler, no network.

The fakes are small shell programs on a PATH that holds nothing else but the system tools the
scripts may rely on. The real build is exercised by the e2e tier, which serves from it.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from corral.diagnosis import LLAMA_COMMIT

ROOT = Path(__file__).resolve().parents[2]
SYSTEM_TOOLS = """
awk basename bash cat chmod cksum cp cut date df dirname env find flock getconf git grep gzip head ln
ls mkdir mktemp mv readlink rm sed sleep tail tar touch tr uname
"""
TREE = f"llama.cpp-{LLAMA_COMMIT[:12]}"

FAKE_CXX = """
case "$*" in *--version*) echo "c++ (Fake) ${FAKE_CXX_VERSION:-12.2.0}" ;; *) echo ' cc1 -march=fake' >&2 ;; esac
"""
FAKE_CMAKE = """
echo "$*" >>"$CALLS"
case $1 in
  --version) echo "cmake version ${FAKE_CMAKE_VERSION:-3.25.1}" ;;
  -S)
    mkdir -p "$4"
    printf 'CMAKE_HOME_DIRECTORY:INTERNAL=%s\\nCMAKE_GENERATOR:INTERNAL=%s\\n' "$2" "$6" >"$4/CMakeCache.txt"
    [ -n "${FAKE_NO_OPENSSL:-}" ] || echo '-- OpenSSL found: 3.0.0'
    [ -z "${FAKE_CONFIGURE_FAILS:-}" ] || { echo 'CMake Error: fake'; exit 1; } ;;
  --build)
    dir=$2
    while [ -n "${FAKE_WAIT_FOR:-}" ] && [ ! -e "$FAKE_WAIT_FOR" ]; do sleep 0.02; done
    echo '[1/2] Building fake.o'
    [ -z "${FAKE_COMPILE_FAILS:-}" ] || { echo 'fake.cpp:1: error: fake'; exit 1; }
    mkdir -p "$dir/bin"
    while [ "$1" != --target ]; do shift; done
    shift
    for target; do
      [ "$target" = llama-app ] && target=llama
      printf '#!/bin/sh\\n' >"$dir/bin/$target"
      chmod +x "$dir/bin/$target"
    done
    echo '[2/2] Linking fake' ;;
esac
"""
# Stands for `python -m pip download … --dest DIR …` only; anything else is the real interpreter's.
FAKE_PYTHON = """
if [ "$1 $2 $3" = '-m pip download' ]; then
  echo "pip $*" >>"$CALLS"
  [ -n "${FAKE_SDIST:-}" ] || { echo 'ERROR: no network (fake)'; exit 1; }
  while [ "$1" != --dest ]; do shift; done
  cp "$FAKE_SDIST" "$2"
  exit
fi
exec REAL_PYTHON "$@"
"""


@dataclass
class Clone:
    """A copy of what the scripts need, and a PATH of fakes."""

    root: Path
    tools: Path
    variables: dict[str, str] = field(default_factory=dict)

    def fake(self, name: str, body: str = "") -> None:
        path = self.tools / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/bash\n{body}")
        path.chmod(0o755)

    def environment(self, **variables: str) -> dict[str, str]:
        base = {
            "PATH": str(self.tools),
            "HOME": str(self.root),
            "CALLS": str(self.calls_file),
            "CUDA_HOME": "/nonexistent",
        }
        return base | {"GIT_CONFIG_NOSYSTEM": "1"} | self.variables | variables

    def run(
        self, *arguments: str, script: str = "build_llama.sh", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        command = ["bash", str(self.root / "scripts" / script), *arguments]
        return subprocess.run(
            command, env=self.environment(**variables), capture_output=True, text=True, timeout=60
        )

    def start(self, **variables: str) -> subprocess.Popen[str]:
        command = ["bash", str(self.root / "scripts" / "build_llama.sh")]
        return subprocess.Popen(
            command, env=self.environment(**variables), stderr=subprocess.PIPE, text=True
        )

    @property
    def calls_file(self) -> Path:
        return self.root / "calls.log"

    def calls(self, beginning: str) -> list[str]:
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        return [line for line in lines if line.startswith(beginning)]

    @property
    def current(self) -> Path:
        return self.root / "build" / "llama" / "current"


def make_clone(tmp_path: Path) -> Clone:
    """A clone without llama.cpp's source."""
    root, tools = tmp_path / "clone", tmp_path / "tools"
    for folder in (root / "scripts", root / "requirements", root / ".venv" / "bin", tools):
        folder.mkdir(parents=True)
    for script in ("build_llama.sh", "llama_source.sh"):
        shutil.copy(ROOT / "scripts" / script, root / "scripts" / script)
    shutil.copy(ROOT / "requirements" / "llama-source.txt", root / "requirements")
    clone = Clone(root, tools)
    for tool in SYSTEM_TOOLS.split():
        if found := shutil.which(tool):
            (tools / tool).symlink_to(found)
    real_python = shutil.which("python3", path="/usr/bin:/usr/local/bin:" + os.environ["PATH"])
    (root / ".venv" / "bin" / "python").write_text(
        "#!/bin/bash\n" + FAKE_PYTHON.replace("REAL_PYTHON", str(real_python))
    )
    (root / ".venv" / "bin" / "python").chmod(0o755)
    clone.fake("c++", FAKE_CXX)
    clone.fake("cmake", FAKE_CMAKE)
    clone.fake("ninja")
    return clone


def wait_for(seen: Callable[[], object]) -> None:
    """Return once `seen()` is true; fail after 20 seconds."""
    end = time.monotonic() + 20
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.02)
