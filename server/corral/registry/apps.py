"""Desktop apps that load GGUF files: where each looks for them, and what it can load.

Paths are functions of the system's name, the home folder and the environment, so that each can be
asked about any of them. Only `find_folder` looks at the disk.
"""

from collections.abc import Mapping
from pathlib import Path

from corral.errors import BadRequest, NotFound

TARGETS = ("gpt4all", "lmstudio", "ollama", "folder")
APPS = {"gpt4all": "GPT4All", "lmstudio": "LM Studio"}
# GPT4All's own list (gpt4all-backend/src/llamamodel.cpp); it refuses every other architecture.
GPT4ALL_ARCHITECTURES = (
    "baichuan", "bert", "bloom", "chatglm", "codeshell", "command-r", "deepseek2", "falcon",
    "gemma", "gemma2", "gpt2", "gptneox", "internlm2", "jais", "llama", "mpt", "nomic-bert",
    "olmo", "openelm", "orion", "phi2", "phi3", "qwen", "qwen2", "qwen2moe", "refact", "stablelm",
    "starcoder", "starcoder2", "xverse",
)  # fmt: skip
# LM Studio writes the path of its own folder there when that is not `~/.lmstudio`.
LM_STUDIO_POINTER = ".lmstudio-home-pointer"


def gpt4all_folders(system: str, home: Path, environment: Mapping[str, str]) -> list[Path]:
    """Where GPT4All keeps models by default (Qt's AppLocalDataLocation), the usual place first."""
    inner = Path("nomic.ai") / "GPT4All"
    if system == "Windows":
        return [Path(environment.get("LOCALAPPDATA") or home / "AppData" / "Local") / inner]
    if system == "Darwin":
        return [home / "Library" / "Application Support" / inner]
    data = Path(environment.get("XDG_DATA_HOME") or home / ".local" / "share")
    flatpak = home / ".var" / "app" / "io.gpt4all.gpt4all" / "data"
    return [data / inner, flatpak / inner]


def lm_studio_folders(home: Path, pointer: str = "") -> list[Path]:
    """Where LM Studio keeps models, on every system; `pointer` is the content of its pointer file."""
    own = pointer.strip().splitlines()
    homes = [*(Path(line) for line in own[:1]), home / ".lmstudio", home / ".cache" / "lm-studio"]
    return [folder / "models" for folder in homes]


def find_folder(app: str, system: str, home: Path, environment: Mapping[str, str]) -> Path:
    """The folder of `gpt4all` or `lmstudio` that is there; NotFound names the usual one."""
    if app == "gpt4all":
        folders = gpt4all_folders(system, home, environment)
    else:
        folders = lm_studio_folders(home, _text(home / LM_STUDIO_POINTER))
    for folder in folders:
        if folder.is_dir():
            return folder
    raise NotFound(
        f"{APPS[app]} keeps its models in {folders[0]}, which is not there: start {APPS[app]} once, "
        "or name its folder with `--dest`",
        param="dest",
    )


def check_architecture(app: str, architecture: str) -> None:
    """Raise BadRequest when `app` is known not to load models of this architecture."""
    if app == "gpt4all" and architecture not in GPT4ALL_ARCHITECTURES:
        raise BadRequest(
            f"GPT4All cannot load the architecture `{architecture}`; it loads: "
            f"{', '.join(GPT4ALL_ARCHITECTURES)}. Export to lmstudio or ollama instead",
            param="to",
        )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
