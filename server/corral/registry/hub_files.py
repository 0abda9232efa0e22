"""The files of a model repository, and which of them make up one model. Pure.

The choice is llama.cpp's (common/download.cpp), made here so that sizes can be added up before the
first byte: the quantisation asked for, else Q4_K_M, else Q8_0, else the first; a split model is all
its shards; the vision projector beside it is the deepest, then the closest in bits.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from corral.errors import BadRequest, InvalidModel, NotFound
from corral.registry.catalog import SHARD

# llama.cpp's own rule for OWNER/NAME: one slash; `.` and `-` only between other characters.
REPO = re.compile(r"(?=[^/]{1,100}/[^/]{1,100}\Z)\w+(?:[./-]\w+)*\Z", re.ASCII)
TAG = re.compile(r"[\w.-]{1,40}\Z", re.ASCII)
PREFERRED = ("Q4_K_M", "Q8_0")
NOT_MODELS = ("mmproj", "imatrix", "mtp-", "eagle3-", "dflash-", "dspark-")
QUANT = re.compile(
    r"(?:\A|[-._/])((?:UD-)?(?:I?Q\d\w*|TQ\d_\d|BF16|F16|F32|MXFP4(?:_MOE)?|NVFP4))(?=[./-]|\Z)",
    re.I,
)
PRESET = "preset.ini"
ETAG = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")


def check_repo(repo: str, tag: str = "") -> None:
    """Raise BadRequest for what is no `OWNER/NAME`, or no quantisation's name."""
    if not REPO.match(repo) or (tag and not TAG.match(tag)):
        raise BadRequest(
            f"`{repo}{':' if tag else ''}{tag}` is no repository name: write OWNER/NAME or "
            "OWNER/NAME:QUANT (letters, digits, `_`, and `.` or `-` between them)",
            param="hf_repo",
        )


@dataclass(frozen=True)
class RepoFile:
    """One file. `sha256` is empty where git itself holds it; then `blob_id` is git's name for it."""

    path: str
    size: int
    sha256: str = ""
    blob_id: str = ""

    @property
    def name(self) -> str:
        """The last part of its path."""
        return PurePosixPath(self.path).name

    @property
    def etag(self) -> str:
        """The name of its content in the download cache."""
        return self.sha256 or self.blob_id

    @property
    def quant(self) -> str:
        """The quantisation that its name gives, upper case, or nothing."""
        found = QUANT.findall(SHARD.sub(r"\g<stem>", self.path.removesuffix(".gguf")))
        return str(found[-1]).upper() if found else ""

    @property
    def is_model(self) -> bool:
        """A GGUF that answers by itself."""
        return self.path.endswith(".gguf") and not any(word in self.name for word in NOT_MODELS)


@dataclass(frozen=True)
class Listing:
    """What a repository holds at one commit."""

    repo: str
    commit: str
    files: tuple[RepoFile, ...]
    licence: str = ""
    gated: bool = False
    downloads: int = 0

    def quants(self) -> dict[str, int]:
        """Bytes of each model by its quantisation (by its name where that says none)."""
        sizes: dict[str, int] = {}
        for file in self.files:
            if file.is_model:
                label = file.quant or file.name
                sizes[label] = sizes.get(label, 0) + file.size
        return sizes


@dataclass(frozen=True)
class Choice:
    """The files of one model. `weights` in the order of its shards."""

    weights: tuple[RepoFile, ...]
    mmproj: RepoFile | None = None

    @property
    def files(self) -> tuple[RepoFile, ...]:
        """All of them."""
        return (*self.weights, self.mmproj) if self.mmproj else self.weights

    @property
    def groups(self) -> tuple[tuple[RepoFile, ...], ...]:
        """What is fetched in one go: the weights, then the projector."""
        return (self.weights, (self.mmproj,)) if self.mmproj else (self.weights,)


def choose(listing: Listing, file: str, quant: str, *, mmproj: bool) -> Choice:
    """The model that is meant; NotFound lists what there is."""
    for path in (one.path for one in listing.files):
        if path == PRESET:
            raise InvalidModel(
                f"`{listing.repo}` is a repository of presets ({PRESET}): llama.cpp fetches nothing "
                "else of it. Pull the models that it names"
            )
    first = _named(listing, file) if file else _best(listing, quant)
    weights = _shards(listing, first)
    choice = Choice(weights, _mmproj(listing, first) if mmproj and first.is_model else None)
    for one in choice.files:
        _check_safe(listing, one)
    return choice


def _check_safe(listing: Listing, file: RepoFile) -> None:
    """Raise InvalidModel for a path or checksum that would lead out of the cache's folder."""
    parts = file.path.split("/")
    if ".." in parts or "" in parts or not ETAG.match(file.etag):
        raise InvalidModel(
            f"`{listing.repo}` lists the file {file.path!r} with the checksum {file.etag!r}: not a plain "
            "path and a hexadecimal checksum, so it is not fetched; tell the hub's keeper"
        )
    if any(character in file.path for character in "%#?"):
        raise InvalidModel(
            f"llama.cpp's downloader cannot fetch `{file.path}` of `{listing.repo}`: the name holds "
            "`%`, `#` or `?`; download it by hand and `corral models pull FILE`"
        )


def _named(listing: Listing, path: str) -> RepoFile:
    found = [one for one in listing.files if one.path == path]
    if not found or not path.endswith(".gguf"):
        what = "is no GGUF file" if found else "is not there"
        raise NotFound(f"`{path}` {what} in `{listing.repo}`; {_there_is(listing)}")
    if "mmproj" in found[0].name:
        raise BadRequest(f"`{path}` is the projector of a model: pull the model, it comes with it")
    return found[0]


def _best(listing: Listing, quant: str) -> RepoFile:
    models = [one for one in listing.files if one.is_model and _index(one) == 1]
    for tag in [quant] if quant else PREFERRED:
        pattern = re.compile(re.escape(tag) + "[.-]", re.I)
        for one in models:
            if pattern.search(one.path):
                return one
    if models and not quant:
        return models[0]
    if models:
        raise NotFound(f"`{listing.repo}` has no {quant}; {_there_is(listing)}")
    raise NotFound(f"`{listing.repo}` holds no model as GGUF; {_there_is(listing)}")


def _there_is(listing: Listing) -> str:
    gguf = [one.path for one in listing.files if one.path.endswith(".gguf")]
    if gguf:
        more = f" and {len(gguf) - 20} more" if len(gguf) > 20 else ""
        return f"there are: {', '.join(f'`{path}`' for path in gguf[:20])}{more}"
    if any(one.path.endswith(".safetensors") for one in listing.files):
        return "it has safetensors: fetch the folder and `corral models convert` it"
    return "look for one with `corral models search WORDS`"


def _index(file: RepoFile) -> int:
    match = SHARD.match(file.path.removesuffix(".gguf"))
    return int(match["index"]) if match else 1


def _shards(listing: Listing, first: RepoFile) -> tuple[RepoFile, ...]:
    """Every shard of the model that `first` belongs to; InvalidModel when the repository lacks one."""
    match = SHARD.match(first.path.removesuffix(".gguf"))
    if match is None:
        return (first,)
    by_path = {one.path: one for one in listing.files}
    count = int(match["count"])
    if not 1 <= int(match["index"]) <= count:
        raise InvalidModel(
            f"`{first.path}` of `{listing.repo}` is shard {match['index']} of {count}"
        )
    names = [f"{match['stem']}-{n:05}-of-{count:05}.gguf" for n in range(1, count + 1)]
    missing = [name for name in names if name not in by_path]
    if missing:
        raise InvalidModel(
            f"`{listing.repo}` lacks {len(missing)} of the {count} shards of `{first.path}`, first "
            f"`{missing[0]}`: the upload is not complete; take another file or repository"
        )
    return tuple(by_path[name] for name in names)


def _mmproj(listing: Listing, model: RepoFile) -> RepoFile | None:
    folder = PurePosixPath(model.path).parent
    beside = [
        one
        for one in listing.files
        if one.path.endswith(".gguf")
        and "mmproj" in one.path
        and PurePosixPath(one.path).parent in (folder, *folder.parents)
    ]

    def nearness(one: RepoFile) -> tuple[int, int]:
        depth = len(PurePosixPath(one.path).parent.parts)
        return (-depth, abs(_bits(one) - _bits(model)))

    return min(beside, key=nearness, default=None)


def _bits(file: RepoFile) -> int:
    digits = re.search(r"\d+", file.quant)
    return int(digits[0]) if digits else 0
