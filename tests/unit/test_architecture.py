"""The house rules that a machine can hold: who imports whom, how long things may be, who reads what.

Two one-way streets meet in the registry: gateway -> runtime -> registry, and features -> jobs,
datasets, registry. Only what puts them together (app.py, and how it starts) and cli/ see all parts.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORRAL = ROOT / "server" / "corral"
SEES_ALL = {"app", "server", "preflight", "cli", "__main__"}
MAY_IMPORT = {
    "gateway": {"runtime", "registry"},
    "runtime": {"registry"},
    "registry": set(),
    "datasets": set(),
    "jobs": {"registry"},
}
# A folder per OpenAI resource: files, finetune, batches …
FEATURE_MAY_IMPORT = {"jobs", "datasets", "registry", "files"}
SCRIPTS_MAY_IMPORT = {"registry", "datasets", "settings", "errors"}
TRAINING_ONLY = {"torch", "transformers", "peft", "trl", "safetensors", "sentencepiece", "mlx"}
DRAWERS = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}
MOST_LINES = 500
MOST_LINES_IN_TESTS = 600
MOST_LINES_IN_A_FUNCTION = 60


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


OWN = [pytest.param(path, id=relative(path)) for path in sources("server", "scripts")]
ALL = [pytest.param(path, id=relative(path)) for path in sources("server", "scripts", "tests")]


def imported(path: Path, package: tuple[str, ...] = ()) -> set[str]:
    """Dotted names that the file imports; `package` is where its relative imports start."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *filter(None, [node.module])))
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def parts(names: set[str]) -> set[str]:
    """The parts of Corral among dotted names: `corral.registry.scan` is `registry`."""
    return {name.split(".")[1] for name in names if name.startswith("corral.")}


def packages(corral: Path) -> set[str]:
    return {folder.name for folder in corral.iterdir() if (folder / "__init__.py").is_file()}


def forbidden_imports(path: Path, corral: Path) -> set[str]:
    """Parts that a file under `corral` imports and may not."""
    owner = path.relative_to(corral).with_suffix("").parts[0]
    if owner in SEES_ALL | {"__init__"}:
        return set()
    package = ("corral", *path.relative_to(corral).parts[:-1])
    others = (parts(imported(path, package)) & (packages(corral) | SEES_ALL)) - {owner}
    if owner not in packages(corral):
        return others
    return others - MAY_IMPORT.get(owner, FEATURE_MAY_IMPORT)


def long_functions(path: Path) -> list[str]:
    """Functions over the limit, their docstrings included."""
    return [
        f"{node.name} ({length} lines)"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > MOST_LINES_IN_A_FUNCTION
    ]


def environment_reads(path: Path) -> Iterator[str]:
    """Where a file touches the environment through `os`."""
    names = {"environ", "environb", "getenv", "putenv"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr in names:
            yield f"line {node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from (f"line {node.lineno}: {a.name}" for a in node.names if a.name in names)


@pytest.mark.parametrize(
    "path", [pytest.param(p, id=relative(p)) for p in sources("server/corral")]
)
def test_imports_go_one_way(path: Path) -> None:
    wrong = forbidden_imports(path, CORRAL)
    assert not wrong, f"{relative(path)} may not import corral.{', corral.'.join(sorted(wrong))}"


@pytest.mark.parametrize("path", [pytest.param(p, id=relative(p)) for p in sources("scripts")])
def test_scripts_see_only_what_training_may(path: Path) -> None:
    wrong = parts(imported(path)) - SCRIPTS_MAY_IMPORT
    assert not wrong, f"{relative(path)} may not import corral.{', corral.'.join(sorted(wrong))}"


@pytest.mark.parametrize("path", [pytest.param(p, id=relative(p)) for p in sources("server")])
def test_the_server_imports_no_script_and_nothing_of_training(path: Path) -> None:
    wrong = {name.split(".")[0] for name in imported(path)} & (TRAINING_ONLY | {"scripts"})
    assert not wrong, f"{relative(path)} imports {', '.join(sorted(wrong))}"


@pytest.mark.parametrize("path", OWN)
def test_only_settings_reads_the_environment(path: Path) -> None:
    if path != CORRAL / "settings.py":
        assert list(environment_reads(path)) == []


@pytest.mark.parametrize("path", ALL)
def test_files_and_functions_stay_short(path: Path) -> None:
    limit = MOST_LINES_IN_TESTS if path.is_relative_to(ROOT / "tests") else MOST_LINES
    assert len(path.read_text(encoding="utf-8").splitlines()) <= limit
    assert long_functions(path) == []


def test_there_are_no_drawers() -> None:
    found = [relative(p) for p in sources("server", "scripts", "tests") if p.name in DRAWERS]
    assert not found, f"name these files after what they hold: {found}"


def test_the_application_starts_without_torch() -> None:
    if not (CORRAL / "app.py").is_file():
        pytest.fail("server/corral/app.py is missing; this test guards what it imports")
    program = (
        "import sys, corral.app\n"
        f"print(sorted({TRAINING_ONLY!r} & {{name.split('.')[0] for name in sys.modules}}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


@pytest.mark.parametrize(
    ("file", "text", "wrong"),
    [
        ("finetune/routes.py", "from corral.gateway import routes", {"gateway"}),
        ("finetune/routes.py", "from ..gateway.routes import router", {"gateway"}),
        ("finetune/routes.py", "import corral.runtime.process", {"runtime"}),
        ("finetune/routes.py", "from corral import jobs, registry", set()),
        ("gateway/routes.py", "def f():\n    from corral.finetune import jobs", {"finetune"}),
        ("gateway/routes.py", "from .. import finetune", {"finetune"}),
        ("gateway/routes.py", "from corral.app import create_app", {"app"}),
        ("gateway/routes.py", "from corral.errors import NotFound", set()),
        ("runtime/process.py", "from corral.gateway import proxy", {"gateway"}),
        ("jobs/worker.py", "from corral.runtime import process", {"runtime"}),
        ("errors.py", "from corral.registry import catalog", {"registry"}),
        ("app.py", "from corral import gateway, finetune", set()),
    ],
)
def test_a_planted_import_is_found(tmp_path: Path, file: str, text: str, wrong: set[str]) -> None:
    for name in ("gateway", "runtime", "registry", "jobs", "finetune"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / file).write_text(text)
    assert forbidden_imports(tmp_path / file, tmp_path) == wrong


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("import os\nos.environ['A']", 1),
        ("from os import getenv", 1),
        ("import os as o\no.getenv('A')", 1),
        ("import os\nos.getpid()", 0),
    ],
)
def test_a_planted_read_of_the_environment_is_found(tmp_path: Path, text: str, count: int) -> None:
    (tmp_path / "a.py").write_text(text)
    assert len(list(environment_reads(tmp_path / "a.py"))) == count


def test_a_planted_long_function_is_found(tmp_path: Path) -> None:
    body = "    pass\n" * MOST_LINES_IN_A_FUNCTION
    (tmp_path / "a.py").write_text(f"def short(): ...\nasync def long():\n{body}")
    assert long_functions(tmp_path / "a.py") == ["long (61 lines)"]
