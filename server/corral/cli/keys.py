"""`corral keys …`: who may ask a running Corral, for what, and how much. Local, or of the Corral at --url."""

import json
import re
import sys
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from corral.cli import keys_api
from corral.cli.options import AsJson, Config, Corral, DataDir
from corral.errors import BadRequest

app = typer.Typer(help="API keys: create, list, rotate, revoke.", no_args_is_help=True)

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
KeyId = Annotated[str, typer.Argument(metavar="ID", help="From `corral keys ls`.")]


@app.command("create")
def create(
    name: Annotated[str, typer.Option(help="For whom or what it is.")],
    scopes: Annotated[
        str, typer.Option(help="Of inference, files, training, admin; admin allows everything.")
    ] = "inference",
    models: Annotated[str, typer.Option(help="Only these, comma between. Default: all.")] = "",
    owner: Annotated[
        str, typer.Option(help="Whose files, jobs and models it makes and sees. Default: its own.")
    ] = "",
    rpm: Annotated[int | None, typer.Option(min=1, help="Requests a minute.")] = None,
    tpm: Annotated[int | None, typer.Option(min=1, help="Tokens a minute.")] = None,
    budget: Annotated[int | None, typer.Option(min=1, help="Tokens in all.")] = None,
    priority: Annotated[
        str, typer.Option(help="high, normal or low: whose requests wait for whose.")
    ] = "normal",
    expires: Annotated[str, typer.Option(help="Like 30d, 12h, or 2027-01-31 (UTC).")] = "",
    as_json: AsJson = False,
    url: Corral = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Make a key. It is printed now and never again: only its hash is kept."""
    request: dict[str, Any] = {"name": name, "owner": owner, "scopes": _listed(scopes)}
    request["priority"] = priority
    limits = {"models": _listed(models) or None, "rpm": rpm, "tpm": tpm, "budget": budget}
    request |= {key: value for key, value in limits.items() if value is not None}
    if expires:
        request["expires_at"] = _moment(expires)
    _print_secret(keys_api.connect(url, data_dir, config).create(request), as_json)


@app.command("ls")
def list_keys(
    as_json: AsJson = False, url: Corral = "", data_dir: DataDir = None, config: Config = None
) -> None:
    """List every key, the newest first, those that are over included."""
    found = keys_api.connect(url, data_dir, config).list()
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        _print_table(found)


@app.command("revoke")
def revoke(
    key_id: KeyId,
    forget: Annotated[bool, typer.Option("--forget", help="Strike it from the list too.")] = False,
    as_json: AsJson = False,
    url: Corral = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """End a key; a running Corral refuses it within a second. What its owner has stays."""
    gone = keys_api.connect(url, data_dir, config).revoke(key_id, forget=forget)
    if as_json:
        print(json.dumps(gone, indent=2, ensure_ascii=False))
    else:
        print(f"{key_id}: {'forgotten' if forget else 'revoked'}", file=sys.stderr)


@app.command("rotate")
def rotate(
    key_id: KeyId,
    keep: Annotated[
        str, typer.Option(help="How long the old one goes on, like 0s, 1h, 7d.")
    ] = "1h",
    as_json: AsJson = False,
    url: Corral = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Make a second key like this one, with the same owner; the old one ends after --keep."""
    made = keys_api.connect(url, data_dir, config).rotate(key_id, _seconds(keep, "keep"))
    _print_secret(made, as_json)


def _print_secret(made: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(made, indent=2, ensure_ascii=False))
        return
    print(f"{made['id']}  {made['name']}: keep this key, it is shown only now", file=sys.stderr)
    print(made["key"])


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _seconds(text: str, option: str) -> float:
    match = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if match is None:
        raise BadRequest(
            f"--{option} {text!r} is no duration; write it like 90m, 12h or 30d", param=option
        )
    return float(match[1]) * UNITS[match[2]]


def _moment(text: str) -> int:
    """A duration from now, or the first second of a day in UTC."""
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        try:
            return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
        except ValueError as error:
            raise BadRequest(f"--expires {text!r}: {error}", param="expires") from None
    return int(time.time() + _seconds(text, "expires"))


def _print_table(found: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("ID", no_wrap=True, min_width=20)
    for heading in (
        "NAME", "OWNER", "STATUS", "SCOPES", "MODELS", "PRIORITY", "LIMITS", "SPENT", "EXPIRES",
    ):  # fmt: skip
        table.add_column(heading)
    for key in found:
        table.add_row(
            key["id"],
            Text(key["name"]),
            "" if key["owner"] == key["id"] else Text(key["owner"]),
            key["status"],
            ", ".join(key["scopes"]),
            Text("all" if key["models"] is None else ", ".join(key["models"])),
            key["priority"],
            _limits(key),
            f"{key['spent']:,}",
            _time(key["expires_at"]),
        )
    Console().print(table)


def _limits(key: dict[str, Any]) -> str:
    given = ((name, key[name]) for name in ("rpm", "tpm", "budget"))
    return ", ".join(f"{name} {value:,}" for name, value in given if value is not None)


def _time(seconds: int | None) -> str:
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
