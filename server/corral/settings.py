"""Every setting of Corral, parsed once into one frozen object.

Order, highest first: command-line flags, `CORRAL_…` environment variables, the settings file
(`--config`, else `CORRAL_CONFIG`, else `corral.toml` in the data directory), the defaults here.
This is the only module that reads the environment. `corral.example.toml` explains each field and a
test keeps the two in step. A name that is not a setting is an error with the nearest valid one.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)

from corral.errors import SettingsError

PREFIX = "CORRAL_"
# The data directory's variable is CORRAL_DATA; every other one is CORRAL_ and the setting's name.
RENAMED = {"data": "data_dir"}
NOT_SETTINGS = {"CORRAL_CONFIG"}
# What commands take from the environment and llama-server must not see.
SECRETS = ("FOLIO_PASSWORD", "TEACHER_API_KEY")
SETTINGS_FILE = "corral.toml"
SQLITE = "sqlite:///"
LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")


def clone_root() -> Path | None:
    """The checkout this package runs from; None when it is installed elsewhere."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "server" / "corral").is_dir() else None


def is_loopback_name(host: str) -> bool:
    """Whether `host`, without a port, means this machine and nothing else."""
    if host in LOOPBACK_HOSTS:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _default_data_dir() -> Path:
    root = clone_root()
    return root / "data" if root else Path.home() / ".local" / "share" / "corral"


def _default_bin_dir() -> Path:
    return (clone_root() or _default_data_dir()) / "build" / "llama" / "current" / "bin"


def _default_bundled_dir() -> Path:
    return (clone_root() or _default_data_dir()) / "models"


def _split(value: Any) -> Any:
    """`a,b` from the environment; lists (from the file) pass."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _split_pairs(value: Any) -> Any:
    """`a=b,c=d` from the environment; tables (from the file) pass."""
    if not isinstance(value, str):
        return value
    pairs = [part.split("=", 1) for part in _split(value)]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("must look like `name=model,name=model`")
    return {name.strip(): target.strip() for name, target in pairs}


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


# As a browser sends it: no path, and never `*`, which would let every web page ask.
Origin = Annotated[str, Field(pattern=r"^[a-z][a-z0-9+.-]*://[^/*\s]+$")]
Seconds = Annotated[float, Field(gt=0, le=86400)]
PathList = Annotated[tuple[Path, ...], BeforeValidator(_split)]
SecretList = Annotated[tuple[SecretStr, ...], BeforeValidator(_split)]
NameList = Annotated[tuple[str, ...], BeforeValidator(_split)]
OriginList = Annotated[tuple[Origin, ...], BeforeValidator(_split)]
NameMap = Annotated[dict[str, str], BeforeValidator(_split_pairs)]
_OPENAI_NAMES = ("gpt-4o", "gpt-4o-mini", "gpt-4.1-mini", "gpt-3.5-turbo")


class ModelSettings(BaseModel):
    """What may be set for one model by name, under `[models.NAME]` in the settings file."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    ctx_size: int | None = Field(None, ge=128, le=16_777_216)
    slots: int | None = Field(None, ge=1, le=256)
    threads: int | None = Field(None, ge=1, le=4096)
    gpu_layers: int | None = Field(None, ge=0, le=100_000)
    defaults: dict[str, int | float | str | bool] = Field(default_factory=dict)


class Settings(BaseModel):
    """All settings. Frozen: pass the object, never a copy of single fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    published: str | None = None
    allowed_hosts: NameList = ()
    cors_origins: OriginList = ()
    media_hosts: NameList = ()
    api_keys: SecretList = ()
    api_keys_file: Path | None = None

    data_dir: Path = Field(default_factory=_default_data_dir)
    database_url: SecretStr | None = None
    models_dirs: PathList = ()
    bundled_models_dir: Path = Field(default_factory=_default_bundled_dir)
    llama_bin_dir: Path = Field(default_factory=_default_bin_dir)

    aliases: NameMap = Field(
        default_factory=lambda: (
            dict.fromkeys(_OPENAI_NAMES, "corral-tiny-folio")
            | {f"{name}+tools": "corral-tiny-edge-ai" for name in _OPENAI_NAMES}
        )
    )
    default_model: str = "corral-tiny-folio"
    preload: NameList = ("corral-tiny-folio",)
    models_max: int = Field(4, ge=1, le=256)
    ctx_size: int = Field(8192, ge=128, le=16_777_216)
    slots: int = Field(4, ge=1, le=256)
    queue_size: int = Field(256, ge=0, le=65_536)
    structured_retries: int = Field(1, ge=0, le=5)
    client_grammars: Literal["admin", "everybody", "nobody"] = "admin"
    threads: int | None = Field(None, ge=1, le=4096)
    gpu_layers: int | None = Field(None, ge=0, le=100_000)
    prompt_cache_mib: int = Field(512, ge=0, le=1_048_576)
    models: dict[str, ModelSettings] = Field(default_factory=dict)

    max_body_bytes: int = Field(32 * 1024 * 1024, ge=1024)
    files_max_bytes: int = Field(1024**3, ge=1024)
    header_timeout: Seconds = 10
    body_timeout: Seconds = 60
    load_timeout: Seconds = 120
    upstream_timeout: Seconds = 600
    stall_timeout: Seconds = 60
    stop_timeout: Seconds = 8
    keep_alive: Seconds = 75

    role: Literal["all", "gateway", "worker"] = "all"
    worker_count: int = Field(1, ge=0, le=16)

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    llama_log_max_bytes: int = Field(10 * 1024 * 1024, ge=4096)

    @field_validator(
        "data_dir", "bundled_models_dir", "llama_bin_dir", "api_keys_file", "models_dirs"
    )
    @classmethod
    def _make_absolute(cls, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(_absolute(path) for path in value)
        return _absolute(value) if value is not None else None

    @field_validator("published")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is None or re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^\s:/\[\]]+):[0-9]{1,5}", value):
            return value
        raise ValueError("must look like `127.0.0.1:8000` or `[::1]:8000`")

    @property
    def is_loopback(self) -> bool:
        """Only programs on this machine can reach the server."""
        if self.published is not None:
            return is_loopback_name(self.published.rpartition(":")[0].strip("[]"))
        return is_loopback_name(self.host)

    @property
    def has_keys(self) -> bool:
        """Whether requests must carry an API key."""
        return bool(self.api_keys)

    @property
    def logs_dir(self) -> Path:
        """Where llama-server's own output goes."""
        return self.data_dir / "logs"

    @property
    def database(self) -> str:
        """SQLAlchemy's address of the database; it may hold a password."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return SQLITE + str(self.data_dir / "corral.db")

    @property
    def database_file(self) -> Path | None:
        """The file of an SQLite database; None when a server keeps it."""
        if not self.database.startswith(SQLITE):
            return None
        return Path(self.database.removeprefix(SQLITE).partition("?")[0])

    def redacted(self) -> dict[str, Any]:
        """The settings in force, JSON-ready, with every secret shown as `**********`."""
        return self.model_dump(mode="json")


def load(flags: Mapping[str, Any] | None = None, config: Path | None = None) -> Settings:
    """Merge flags, environment, file and defaults; raise SettingsError naming what is wrong.

    `flags` whose value is None count as not given.
    """
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    environment = _from_environment()
    path = _settings_path(given, environment, config)
    from_file = _from_file(path) if path else {}
    origin = (
        dict.fromkeys(from_file, str(path))
        | {name: _variable(name) for name in environment}
        | dict.fromkeys(given, "a command-line flag")
    )
    try:
        settings = Settings(**{**from_file, **environment, **given})
    except ValidationError as error:
        raise SettingsError(_explain(error, origin)) from None
    return _with_keys_from_file(settings)


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment for llama-server: ours without LLAMA_ARG_… (they would override the presets),
    without Corral's own variables and without keys that are none of its business."""
    hidden: tuple[str, ...] = (
        "LLAMA_ARG_",
        "LLAMA_API_KEY",
        "LLAMA_SERVER_",
        PREFIX,
        "OPENAI_",
        "OTEL_",
        "HF_TOKEN",
        "AIP_",
    )
    hidden += SECRETS
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return {**kept, **extra}


def stage_environment(settings: Settings, extra: Mapping[str, str]) -> dict[str, str]:
    """The environment for a stage of a job: ours with the settings in force, without keys that are
    none of its business (HF_TOKEN stays) and without LLAMA_ARG_…, which would override its flags."""
    hidden = (
        "LLAMA_ARG_",
        "LLAMA_API_KEY",
        "LLAMA_SERVER_",
        "OPENAI_",
        "CORRAL_API_KEYS",
        "CORRAL_DATABASE_URL",
        *SECRETS,
    )
    kept = {**os.environ, **as_environment(settings)}
    return {name: v for name, v in kept.items() if not name.startswith(hidden)} | dict(extra)


def corral_environment(settings: Settings) -> dict[str, str]:
    """The environment for another `corral` of this one's: ours with the settings in force, those of
    flags and of --config included, the database's address too."""
    return {**os.environ, **as_environment(settings)}


def as_environment(settings: Settings) -> dict[str, str]:
    """What was set, as CORRAL_… variables. Without API keys, which only the gateway needs, and
    without tables for single models, which variables cannot hold."""
    found = {}
    for name in settings.model_fields_set - {"models", "api_keys", "api_keys_file"}:
        value = getattr(settings, name)
        if value is not None:
            found[_variable(name)] = _as_text(value)
    return found


def _as_text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        return ",".join(f"{name}={target}" for name, target in value.items())
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def secret(variable: str) -> str:
    """A secret that a command takes from the environment, one of SECRETS; empty when it is not set."""
    if variable not in SECRETS:
        raise ValueError(f"{variable} is not in SECRETS")
    return os.environ.get(variable, "")


def traces_wanted() -> bool:
    """Whether the environment names a receiver of OpenTelemetry traces, by the SDK's own variables."""
    named = _first_set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return bool(named) and _first_set("OTEL_SDK_DISABLED").lower() != "true"


def app_folders() -> dict[str, str]:
    """The variables that say where desktop apps keep their files (`registry.apps`)."""
    return {name: _first_set(name) for name in ("LOCALAPPDATA", "XDG_DATA_HOME")}


@dataclass(frozen=True)
class HubAccess:
    """Where models are fetched from, who asks, and the download cache that llama.cpp shares with
    huggingface_hub. The token comes from HF_TOKEN or its file only, never from a flag."""

    endpoint: str
    cache: Path
    token: SecretStr
    offline: bool

    def environment(self) -> dict[str, str]:
        """What llama.cpp's downloader needs to know of it, by the names it reads first."""
        token = self.token.get_secret_value()
        return {"MODEL_ENDPOINT": self.endpoint, "LLAMA_CACHE": str(self.cache)} | (
            {"HF_TOKEN": token} if token else {}
        )


def hub_access() -> HubAccess:
    """The hub as the environment names it: the variables of llama.cpp before those of huggingface_hub."""
    endpoint = _first_set("MODEL_ENDPOINT", "HF_ENDPOINT") or "https://huggingface.co"
    home = Path(_first_set("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    home = _absolute(Path(_first_set("HF_HOME") or home))
    cache = _first_set("LLAMA_CACHE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")
    offline = _first_set("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE").lower() in (
        "1",
        "on",
        "yes",
        "true",
    )
    return HubAccess(
        endpoint.rstrip("/"),
        _absolute(Path(cache)) if cache else home / "hub",
        SecretStr(_hub_token(home)),
        offline,
    )


def _first_set(*variables: str) -> str:
    return next((os.environ[name] for name in variables if os.environ.get(name)), "")


def _hub_token(home: Path) -> str:
    given = _first_set("HF_TOKEN").strip()
    path = _absolute(Path(_first_set("HF_TOKEN_PATH") or home / "token"))
    try:
        return given or path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _variable(field: str) -> str:
    short = {target: name for name, target in RENAMED.items()}.get(field, field)
    return PREFIX + short.upper()


def _from_environment() -> dict[str, str]:
    known = {_variable(name): name for name in Settings.model_fields if name != "models"}
    found: dict[str, str] = {}
    for variable, value in os.environ.items():
        if not variable.startswith(PREFIX) or variable in NOT_SETTINGS:
            continue
        if variable not in known:
            raise SettingsError(_unknown("environment variable", variable, [*known, *NOT_SETTINGS]))
        found[known[variable]] = value
    return found


def _settings_path(
    flags: Mapping[str, Any], environment: Mapping[str, str], config: Path | None
) -> Path | None:
    named = config or os.environ.get("CORRAL_CONFIG")
    if named:
        path = _absolute(Path(named))
        if not path.is_file():
            raise SettingsError(f"settings file {path} does not exist; see corral.example.toml")
        return path
    data_dir = flags.get("data_dir") or environment.get("data_dir") or _default_data_dir()
    path = _absolute(Path(data_dir)) / SETTINGS_FILE
    return path if path.is_file() else None


def _from_file(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"settings file {path} cannot be read: {error}") from error
    for name in values:
        if name not in Settings.model_fields:
            raise SettingsError(_unknown(f"setting in {path}", name, list(Settings.model_fields)))
    return values


def _unknown(kind: str, name: str, valid: list[str]) -> str:
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`?" if near else f"valid ones: {', '.join(sorted(valid))}"
    return f"unknown {kind}: `{name}`; {hint}"


def _explain(error: ValidationError, origin: Mapping[str, str]) -> str:
    problems = []
    for item in error.errors(include_url=False, include_input=False):
        field = ".".join(str(part) for part in item["loc"]) or "settings"
        if item["type"] == "extra_forbidden":
            problems.append(_unknown_nested(item["loc"]))
            continue
        source = origin.get(str(item["loc"][0]), "a default") if item["loc"] else "a default"
        problems.append(f"setting `{field}` (from {source}): {item['msg']}")
    return "; ".join(problems) + "; corral.example.toml lists valid values"


def _unknown_nested(loc: tuple[int | str, ...]) -> str:
    model = ModelSettings if len(loc) > 1 else Settings
    return _unknown("setting", str(loc[-1]), list(model.model_fields))


def _with_keys_from_file(settings: Settings) -> Settings:
    path = settings.api_keys_file
    if path is None:
        return settings
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"setting `api_keys_file`: {path} cannot be read: {error}") from error
    keys = [SecretStr(line.strip()) for line in lines if line.strip() and line[0] != "#"]
    if not keys:
        raise SettingsError(f"setting `api_keys_file`: {path} holds no key; one key per line")
    return settings.model_copy(update={"api_keys": (*settings.api_keys, *keys)})


def use_llama_libraries(folder: Path) -> None:
    """Let llama-cpp-python load llama.cpp from this folder. Call it before `llama_cpp` is imported:
    the package is told by a variable only, and reads it then. A variable set by hand wins."""
    os.environ.setdefault("LLAMA_CPP_LIB_PATH", str(folder))
