"""The documents are true: targets, file map, settings, records, and nothing of one machine in them."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from corral.settings import ModelSettings, Settings

ROOT = Path(__file__).resolve().parents[1]
MOST_TARGETS = 20
CHANGES = {"Added", "Changed", "Fixed", "Removed"}
# Said in two parts, so that this file does not name what it forbids.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in (
        ("pythonhosted", "org"),
        ("pypi", "org"),
        ("pypi", "python", "org"),
        ("download", "pytorch", "org"),
        ("deb", "debian", "org"),
        ("snapshot", "debian", "org"),
        ("archive", "ubuntu", "com"),
        ("registry", "npmjs", "org"),
        ("conda", "anaconda", "org"),
    )
]
INDEX_OPTIONS = ["--" + name for name in ("index-url", "extra-index-url", "trusted-host")]
LOCAL_PATH = re.compile(r"(?<![\w./-])/(?:work|root|home/\w|Users/\w|mnt/\w|private/var)\b")


def tracked() -> list[Path]:
    """Files that git has or would take."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in done.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def text_of(path: Path) -> str:
    """Its text; empty for a binary file."""
    data = path.read_bytes()
    return "" if b"\0" in data[:8192] else data.decode("utf-8")


def targets() -> dict[str, str]:
    """Each phony target of the Makefile and its help, empty where it has none."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    (names,) = re.findall(r"^\.PHONY: (.+)$", makefile, re.M)
    helped = dict(re.findall(r"^([a-z-]+):.*?## (.+)$", makefile, re.M))
    return {name: helped.get(name, "") for name in names.split()}


def fenced(document: str, info: str) -> str:
    """The content of the only fenced block of README.md whose opening line ends with `info`."""
    (block,) = re.findall(rf"^```{info}\n(.*?)^```$", document, re.M | re.S)
    return str(block)


def documents() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".md"]


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def file_map() -> list[str]:
    """The paths of README's file map: `path  comment`, one to a line."""
    lines = [line for line in fenced(readme(), "text map").splitlines() if line.strip()]
    malformed = [line for line in lines if not re.match(r"\S+ {2,}\S", line)]
    assert not malformed, f"not `path  comment`: {malformed}"
    return [line.split()[0] for line in lines]


# ---- make --------------------------------------------------------------------------------------


def test_every_target_has_help_and_there_are_few() -> None:
    assert [name for name, text in targets().items() if not text] == []
    assert len(targets()) <= MOST_TARGETS


def test_make_alone_lists_every_target() -> None:
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = re.findall(r"^ +make ([a-z-]+) ", done.stdout, re.M)
    assert listed == list(targets())


def current_documents() -> list[Path]:
    """Those that speak of the present; records speak of their day."""
    records = (ROOT / "docs" / "adr", ROOT / "docs" / "log.md", ROOT / "CHANGELOG.md")
    return [path for path in documents() if not any(map(path.is_relative_to, records))]


@pytest.mark.parametrize("path", current_documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_documents_name_only_targets_that_exist(path: Path) -> None:
    named = re.findall(r"`make ([a-z][a-z-]*)", text_of(path))
    named += re.findall(r"^(?:\$ )?make ([a-z][a-z-]*)", text_of(path), re.M)
    assert set(named) - set(targets()) == set()


# ---- README ------------------------------------------------------------------------------------


def test_everything_in_the_file_map_exists() -> None:
    assert [entry for entry in file_map() if not (ROOT / entry).exists()] == []


def test_the_file_map_names_everything_at_the_top() -> None:
    top = {path.relative_to(ROOT).parts[0] for path in tracked()}
    mapped = {entry.split("/")[0] for entry in file_map()}
    assert {name for name in top if not name.startswith(".")} - mapped == set()


def test_the_readme_says_how_to_test() -> None:
    assert fenced(readme(), "bash test").strip() == "make test"


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_within_the_project_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text_of(path))
    assert [link for link in links if not (path.parent / link).exists()] == []


# ---- settings ----------------------------------------------------------------------------------


def example() -> str:
    return (ROOT / "corral.example.toml").read_text(encoding="utf-8")


def example_without_comments() -> dict[str, object]:
    """corral.example.toml with every commented-out setting and table put in force."""
    return tomllib.loads(re.sub(r"^# ?(?=[a-z_]+ = |\[)", "", example(), flags=re.M))


def test_the_example_settings_and_the_fields_are_the_same() -> None:
    assert set(example_without_comments()) == set(Settings.model_fields)


def test_the_example_explains_every_setting_of_a_model() -> None:
    models = example_without_comments()["models"]
    assert isinstance(models, dict)
    explained = {key for table in models.values() for key in table}
    assert explained == set(ModelSettings.model_fields)


def test_the_example_is_valid_as_it_stands() -> None:
    Settings(**tomllib.loads(example()))


# ---- records -----------------------------------------------------------------------------------

ADRS = sorted(path for path in (ROOT / "docs" / "adr").glob("*.md") if path.name != "template.md")


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = [path.name[:5] for path in ADRS]
    assert numbers == [f"{number:04}-" for number in range(1, len(ADRS) + 1)]


@pytest.mark.parametrize("path", ADRS, ids=lambda path: path.name)
def test_a_decision_has_the_parts_of_the_template(path: Path) -> None:
    text = text_of(path)
    assert re.match(rf"# {int(path.name[:4])}\. \S", text)
    assert re.search(r"^Status: (proposed|accepted|superseded by \d{4})$", text, re.M)
    assert re.findall(r"^## (.+)$", text, re.M) == ["Context", "Decision", "Consequences"]
    assert len(text.splitlines()) <= 60, "one page"


def test_the_changelog_is_for_users_and_in_order() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    releases = re.findall(r"^## (.+)$", text, re.M)
    assert releases[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", name) for name in releases[1:])
    assert set(re.findall(r"^### (.+)$", text, re.M)) <= CHANGES


# ---- nothing of one machine --------------------------------------------------------------------


def of_one_machine(text: str) -> list[str]:
    """What a text says that holds only on one machine or behind one mirror."""
    hosts = [host for host in REGISTRY_HOSTS if host in text]
    options = [name for name in INDEX_OPTIONS if f"{name}=" in text or f"{name} " in text]
    return hosts + options + LOCAL_PATH.findall(text)


def test_no_file_names_a_package_registry_or_a_path_of_one_machine() -> None:
    found = {str(path.relative_to(ROOT)): of_one_machine(text_of(path)) for path in tracked()}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize(
    "planted",
    [f"see https://files.{REGISTRY_HOSTS[0]}/x", f"{INDEX_OPTIONS[0]} x", "cd /" + "root/x"],
)
def test_a_planted_registry_or_path_is_found(planted: str) -> None:
    assert of_one_machine(planted)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda p: p.name
)
def test_requirements_are_pinned_and_hashed_and_name_no_index(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    for line in filter(None, (line.partition("#")[0].strip() for line in lines)):
        assert re.match(r"[a-z0-9][a-z0-9._-]*==\S+ .*--hash=sha256:[0-9a-f]{64}", line), line
        assert "://" not in line
