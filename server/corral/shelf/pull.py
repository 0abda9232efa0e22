"""Pull a model: from a hub, a URL or a file into the registry."""

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from corral.errors import BadRequest
from corral.jobs import kinds
from corral.jobs.kinds import Kind, Stage, stage_argv
from corral.registry.hub_files import check_repo
from corral.settings import Settings


class Spec(kinds.Spec):
    """Exactly one of `hf_repo`, `url` and `file`."""

    hf_repo: str = Field("", max_length=250)
    hf_file: str = Field("", max_length=1000)
    url: str = Field("", max_length=4000)
    sha256: str = Field("", pattern=r"^([0-9a-fA-F]{64})?$")
    file: str = Field("", max_length=4000)
    name: str = Field("", pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,199})?$")
    base: str = Field("", max_length=200)
    mmproj: bool = True
    offline: bool = False

    @field_validator("hf_repo")
    @classmethod
    def _is_a_repository(cls, value: str) -> str:
        if value:
            repo, _, quant = value.partition(":")
            try:
                check_repo(repo, quant)
            except BadRequest as error:
                raise _wrong(error.message) from error
        return value

    @field_validator("url")
    @classmethod
    def _holds_no_password(cls, value: str) -> str:
        address = urlsplit(value)
        if value and (address.scheme not in ("http", "https") or not address.hostname):
            raise _wrong("no http(s) address")
        if address.username is not None:
            raise _wrong("holds a user name or password; leave it out: a job is stored and shown")
        return value

    @field_validator("file")
    @classmethod
    def _is_absolute(cls, value: str) -> str:
        if value and not Path(value).is_absolute():
            raise _wrong(f"`{value}`: a job needs the whole path of the file")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> "Spec":
        if sum(map(bool, (self.hf_repo, self.url, self.file))) != 1:
            raise _wrong("name one thing to fetch: hf_repo (OWNER/NAME), url, or file")
        if self.hf_file and not self.hf_repo:
            raise _wrong("hf_file needs hf_repo, the repository that has the file")
        if self.url and not self.sha256:
            raise _wrong("url needs sha256, the file's checksum in hexadecimal")
        return self


def _wrong(message: str) -> PydanticCustomError:
    """An error with exactly this message; of a ValueError pydantic makes `Value error, …`."""
    return PydanticCustomError("pull", "{message}", {"message": message})


def plan(spec: Spec, settings: Settings, folder: Path) -> tuple[Stage, ...]:
    """One stage. `--flag=value` throughout: no value is taken for a flag, whatever it begins with."""
    words = {
        "hf-repo": spec.hf_repo,
        "hf-file": spec.hf_file,
        "url": spec.url,
        "sha256": spec.sha256,
        "name": spec.name,
        "base": spec.base,
        "out": folder / "out",
    }
    flags = {"no-mmproj": not spec.mmproj, "offline": spec.offline}
    arguments = [f"--{word}={value}" for word, value in words.items() if value]
    arguments += [f"--{flag}" for flag, on in flags.items() if on]
    return (Stage("fetch", stage_argv("fetch_model.py", *arguments, *filter(None, [spec.file]))),)


KIND = Kind("pull", Spec, plan)
