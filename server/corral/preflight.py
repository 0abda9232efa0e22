"""What must hold before `corral serve` starts; each failure is one message that says what to do."""

import errno
import os
import socket

from corral.errors import SettingsError, StartupError
from corral.keys.store import Keys
from corral.registry.catalog import Catalog
from corral.runtime.command import BINARY
from corral.runtime.presets import lay_out
from corral.settings import Settings


def check(settings: Settings, catalog: Catalog) -> None:
    """Raise the first thing that is wrong."""
    _safe_address(settings)
    _binary(settings)
    _bundled(settings, catalog)
    _aliases(settings, catalog)
    _preload(settings, catalog)
    _data_dir(settings)


def bind(settings: Settings) -> socket.socket:
    """The listening socket; StartupError when the port is taken."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        # Listens now, so that a second `corral serve` fails here and not later.
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise _cannot_bind(settings, error) from error
    listener.set_inheritable(False)
    return listener


def _cannot_bind(settings: Settings, error: OSError) -> StartupError:
    where = f"{settings.host}:{settings.port}"
    if error.errno == errno.EADDRINUSE:
        return StartupError(
            f"port {settings.port} on {settings.host} is taken; `lsof -i :{settings.port}` shows "
            f"by whom. Choose another: `corral serve --port {settings.port + 1}` or CORRAL_PORT, "
            "or `--port 0` for a free one",
            param="port",
        )
    if error.errno == errno.EACCES:
        return StartupError(
            f"no permission to listen on {where}; choose a port above 1023: `corral serve --port 8000`",
            param="port",
        )
    return StartupError(f"cannot listen on {where}: {error.strerror or error}", param="host")


def _safe_address(settings: Settings) -> None:
    if settings.is_loopback or settings.has_keys or Keys(settings).list():
        return
    raise SettingsError(
        f"host {settings.published or settings.host} would let other machines in, and no API key is "
        "set. Make one and start again:  export CORRAL_API_KEYS=$(openssl rand -hex 24)   (or set "
        "`api_keys_file`, or `corral keys create --name me --scopes admin`); or listen on 127.0.0.1 "
        "only (in a container: publish the port there and "
        "say so with CORRAL_PUBLISHED=127.0.0.1:8000)",
        param="host",
    )


def _binary(settings: Settings) -> None:
    path = settings.llama_bin_dir / BINARY
    if not path.is_file():
        raise StartupError(
            f"{path} is missing: llama.cpp is not built. Run `make build`, or point "
            "`llama_bin_dir` (CORRAL_LLAMA_BIN_DIR) at a folder that holds it",
            param="llama_bin_dir",
        )
    if not os.access(path, os.X_OK):
        raise StartupError(
            f"{path} is not executable; run `make build` again", param="llama_bin_dir"
        )


def _bundled(settings: Settings, catalog: Catalog) -> None:
    bad = [p for p in catalog.problems if p.path.is_relative_to(settings.bundled_models_dir)]
    if bad:
        raise StartupError(
            f"{bad[0].message}. It is part of this repository: `git checkout -- models/` restores it",
            param=bad[0].name,
        )


def _aliases(settings: Settings, catalog: Catalog) -> None:
    if "aliases" not in settings.model_fields_set:
        return  # the defaults name bundled models, which an installed wheel may lack
    known = ", ".join(f"`{name}`" for name in catalog.models) or "none"
    for alias, target in settings.aliases.items():
        if target not in catalog.models:
            raise SettingsError(
                f"setting `aliases`: `{alias}` points at `{target}`, which is no model here; "
                f"there are: {known}",
                param="aliases",
            )


def _preload(settings: Settings, catalog: Catalog) -> None:
    sections = lay_out(catalog, settings).preloaded
    if len(sections) > settings.models_max:
        raise SettingsError(
            f"setting `preload` names {len(sections)} base models, but `models_max` is "
            f"{settings.models_max}; preload fewer or raise it",
            param="preload",
        )


def _data_dir(settings: Settings) -> None:
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartupError(f"data directory {settings.data_dir} cannot be made: {error}") from error
    if not os.access(settings.data_dir, os.W_OK | os.X_OK):
        user, owner = os.getuid(), settings.data_dir.stat().st_uid
        instead = f", or run it with `--user {owner}`" if owner else ""
        raise StartupError(
            f"data directory {settings.data_dir} is not writable for user {user}; it belongs to user "
            f"{owner}. Give it away with `sudo chown -R {user} FOLDER` (for a container: the folder "
            f"on the host{instead}), or set CORRAL_DATA to another",
            param="data_dir",
        )
