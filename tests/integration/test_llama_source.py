"""scripts/llama_source.sh, run for real over a fake pip and local git repositories."""

import hashlib
import os
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from corral.diagnosis import LLAMA_COMMIT
from tests.fakes.build_tools import ROOT, TREE, Clone, make_clone, wait_for


@pytest.fixture
def bare(tmp_path: Path) -> Clone:
    """A clone without llama.cpp's source."""
    return make_clone(tmp_path)


@pytest.fixture
def sdist(bare: Clone, tmp_path: Path) -> Path:
    """An sdist of the pinned commit's shape; the clone is pinned to its sha256."""
    return make_sdist(bare, tmp_path, LLAMA_COMMIT)


def make_sdist(clone: Clone, folder: Path, commit: str) -> Path:
    top = folder / "llama_cpp_python-0.3.36"
    tree, git = top / "vendor" / "llama.cpp", top / ".git" / "modules" / "vendor" / "llama.cpp"
    tree.mkdir(parents=True)
    git.mkdir(parents=True)
    (tree / "CMakeLists.txt").write_text("# fake\n")
    (tree / ".git").write_text("gitdir: ../../.git/modules/vendor/llama.cpp\n")
    (git / "HEAD").write_text(f"{commit}\n")
    path = folder / f"{top.name}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(top, arcname=top.name)
    pin(clone, hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def pin(clone: Clone, sha256: str) -> None:
    requirement = f"llama-cpp-python==0.3.36 --hash=sha256:{sha256}\n"
    (clone.root / "requirements" / "llama-source.txt").write_text(requirement)


def source(clone: Clone, **variables: str) -> subprocess.CompletedProcess[str]:
    return clone.run(script="llama_source.sh", **variables)


def unpacked(clone: Clone) -> list[str]:
    folder = clone.root / "build" / "src"
    return sorted(p.name for p in folder.iterdir() if p.name != ".lock") if folder.exists() else []


def test_the_sdist_is_unpacked_once_outside_the_submodule(bare: Clone, sdist: Path) -> None:
    (bare.root / "llama.cpp").mkdir()
    done = source(bare, FAKE_SDIST=str(sdist))
    tree = bare.root / "build" / "src" / TREE
    assert done.stdout == f"{tree}\n", done.stderr
    assert sorted(p.name for p in tree.iterdir()) == ["CMakeLists.txt"]
    assert list((bare.root / "llama.cpp").iterdir()) == []
    assert source(bare).stdout == f"{tree}\n"
    assert len(bare.calls("pip")) == 1


def test_pip_is_told_to_check_the_hash_and_not_to_build(bare: Clone, sdist: Path) -> None:
    source(bare, FAKE_SDIST=str(sdist))
    (call,) = bare.calls("pip")
    assert "--require-hashes" in call
    assert "--no-deps" in call


def test_another_sha256_stops_with_both_values(bare: Clone, sdist: Path) -> None:
    found = hashlib.sha256(sdist.read_bytes()).hexdigest()
    pin(bare, "0" * 64)
    done = source(bare, FAKE_SDIST=str(sdist))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"pinned sha256: {'0' * 64}" in done.stderr
    assert f"found sha256:  {found}" in done.stderr
    assert unpacked(bare) == []


def test_another_commit_in_the_sdist_stops_with_both_values(bare: Clone, tmp_path: Path) -> None:
    sdist = make_sdist(bare, tmp_path, "f" * 40)
    done = source(bare, FAKE_SDIST=str(sdist))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"pinned: {LLAMA_COMMIT}" in done.stderr
    assert f"found:  {'f' * 40}" in done.stderr
    assert unpacked(bare) == []


def test_no_network_at_all_is_one_message(bare: Clone) -> None:
    done = source(bare)
    assert done.returncode == 1
    assert "no network (fake)" in done.stderr
    assert "pip could not fetch llama-cpp-python==0.3.36" in done.stderr
    assert "git submodule update --init llama.cpp" in done.stderr


def test_what_a_killed_unpacking_left_is_cleared(bare: Clone, sdist: Path) -> None:
    half = bare.root / "build" / "src" / ".tmp.killed" / "vendor"
    half.mkdir(parents=True)
    assert source(bare, FAKE_SDIST=str(sdist)).returncode == 0
    assert unpacked(bare) == [TREE]


def git(folder: Path, *arguments: str) -> str:
    config = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    config += ["-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main"]
    done = subprocess.run(
        ["git", *config, "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def upstream(bare: Clone, tmp_path: Path) -> Path:
    """A git repository in place of llama.cpp's, to whose commit the clone is pinned."""
    path = tmp_path / "upstream"
    path.mkdir()
    git(path, "init")
    (path / "CMakeLists.txt").write_text("# fake\n")
    git(path, "add", ".")
    git(path, "commit", "-m", "one")
    git(path, "config", "uploadpack.allowAnySHA1InWant", "true")
    commit = git(path, "rev-parse", "HEAD")
    git(bare.root, "init")
    (bare.root / ".gitmodules").write_text(
        f'[submodule "llama.cpp"]\n\tpath = llama.cpp\n\turl = file://{path}\n'
    )
    git(bare.root, "update-index", "--add", "--cacheinfo", f"160000,{commit},llama.cpp")
    script = bare.root / "scripts" / "llama_source.sh"
    script.write_text(script.read_text().replace(LLAMA_COMMIT, commit))
    bare.variables = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "protocol.file.allow",
        "GIT_CONFIG_VALUE_0": "always",
    }
    return path


def test_the_submodule_is_checked_out_where_git_can(bare: Clone, upstream: Path) -> None:
    done = source(bare)
    assert done.stdout == f"{bare.root}/llama.cpp\n", done.stderr
    assert (bare.root / "llama.cpp" / "CMakeLists.txt").is_file()
    assert source(bare).stdout == f"{bare.root}/llama.cpp\n"
    assert bare.calls("pip") == []


def test_a_submodule_at_another_commit_stops_with_both_values(bare: Clone, upstream: Path) -> None:
    source(bare)
    (bare.root / "llama.cpp" / "new").touch()
    git(bare.root / "llama.cpp", "add", ".")
    git(bare.root / "llama.cpp", "commit", "-m", "two")
    moved, pinned = (
        git(bare.root / "llama.cpp", "rev-parse", "HEAD"),
        git(upstream, "rev-parse", "HEAD"),
    )
    done = source(bare)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"pinned: {pinned}" in done.stderr
    assert f"found:  {moved}" in done.stderr
    assert "git submodule update --init llama.cpp" in done.stderr


def test_where_git_cannot_reach_upstream_the_sdist_serves(
    bare: Clone, upstream: Path, tmp_path: Path
) -> None:
    commit = git(upstream, "rev-parse", "HEAD")
    shutil.rmtree(upstream)
    done = source(bare, FAKE_SDIST=str(make_sdist(bare, tmp_path, commit)))
    assert done.stdout == f"{bare.root}/build/src/llama.cpp-{commit[:12]}\n", done.stderr


def test_a_git_that_hangs_is_ended(bare: Clone, upstream: Path, sdist: Path) -> None:
    script = bare.root / "scripts" / "llama_source.sh"
    script.write_text(script.read_text().replace("GIT_PROBE_SECONDS=10", "GIT_PROBE_SECONDS=0.2"))
    real = shutil.which("git")
    bare.fake("git", f'case $1 in ls-remote) exec sleep 60 ;; *) exec {real} "$@" ;; esac')
    start = time.monotonic()
    source(bare, FAKE_SDIST=str(sdist))
    assert time.monotonic() - start < 10
    assert len(bare.calls("pip")) == 1


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_ctrl_c_ends_git_too(bare: Clone, upstream: Path, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    real = shutil.which("git")
    hang = f"echo $$ >{pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 60"
    bare.fake("git", f'case $1 in ls-remote) {hang} ;; *) exec {real} "$@" ;; esac')
    script = subprocess.Popen(
        ["bash", str(bare.root / "scripts" / "llama_source.sh")],
        env=bare.environment(),
        # What a shell starts in the background ignores SIGINT, and so do its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_for(pid_file.exists)
    script.send_signal(signal.SIGINT)
    assert script.wait(10) == 130
    wait_for(lambda: not is_alive(int(pid_file.read_text())))


def test_script_package_and_submodule_name_one_commit() -> None:
    script = ["bash", str(ROOT / "scripts" / "llama_source.sh"), "--commit"]
    printed = subprocess.run(script, capture_output=True, text=True, check=True).stdout.strip()
    entry = git(ROOT, "ls-files", "-s", "llama.cpp").split()
    assert printed == LLAMA_COMMIT
    assert entry[:2] == ["160000", LLAMA_COMMIT]


def test_the_bindings_are_of_the_release_that_carries_the_source() -> None:
    wanted = (ROOT / "requirements" / "llama-source.txt").read_text().split("\n")[1]
    release, sha256 = wanted.split(" --hash=sha256:")
    data = (ROOT / "requirements" / "data.txt").read_text()
    assert f"{release} \\" in data
    assert sha256 in data
