"""The model that `corral models fit` is about: a file here, or one on a hub by its header alone.

llama.cpp's tools give the figures where they can; what they cannot (a build that is missing, an
architecture they do not know) is estimated from the metadata, with a note that says why.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from corral.errors import BadRequest, CorralError, InvalidModel
from corral.registry import fit_tools
from corral.registry.catalog import SHARD
from corral.registry.fit import Candidate, Need, Shape, need_of
from corral.registry.gguf_header import read_header
from corral.registry.hub_files import Choice, Listing, RepoFile, choose
from corral.registry.remote_header import RemoteHeader, read_remote_header
from corral.settings import HubAccess

UNQUANTISED = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class Serving:
    """For whom it must be enough: tokens in one conversation, and conversations at once."""

    context: int
    slots: int


@dataclass(frozen=True)
class Wish:
    """What was asked for: without a `context`, the `usual` one or what the model was trained for."""

    context: int | None
    usual: int
    slots: int

    def of(self, shape: Shape) -> Serving:
        """The same for one model."""
        trained = shape.header.context_length or self.usual
        return Serving(self.context or min(self.usual, trained), self.slots)


@dataclass(frozen=True)
class Subject:
    """A model, what it needs as it is, and in which other types it could be had."""

    name: str
    file: str
    shape: Shape
    type: str
    serving: Serving
    need: Need
    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...] = ()


def local(name: str, path: Path, wish: Wish, bin_dir: Path) -> Subject:
    """The GGUF at `path` (the first shard of a split one). Raises InvalidModel."""
    shape = Shape([read_header(shard, details=True) for shard in shard_paths(path)])
    return _subject(name, path, shape, wish.of(shape), bin_dir)


def shard_paths(path: Path) -> list[Path]:
    """Every file of the model whose first is `path`."""
    match = SHARD.match(path.stem)
    if match is None:
        return [path]
    count = int(match["count"])
    return [
        path.with_name(f"{match['stem']}-{n:05}-of-{count:05}.gguf") for n in range(1, count + 1)
    ]


def on_hub(
    repo: str, quant: str, listing: Listing, access: HubAccess, wish: Wish, bin_dir: Path
) -> Subject:
    """A model of a repository; reads the headers of one of its models by range requests."""
    choice = choose(listing, "", quant, mmproj=False)
    token = access.token.get_secret_value()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    shards = [
        (file.name, read_remote_header(_url(access, listing, file), headers))
        for file in choice.weights
    ]
    subject = remote(repo, shards, wish, bin_dir)
    offered = _offered(listing, choice, quant)
    kept = [one for one in subject.candidates if one.type not in {o.type for o in offered}]
    return replace(subject, candidates=(*offered, *kept))


def remote(
    name: str, shards: Sequence[tuple[str, RemoteHeader]], wish: Wish, bin_dir: Path
) -> Subject:
    """A model whose headers were read from elsewhere."""
    shape = Shape([remote.header for _, remote in shards])
    with tempfile.TemporaryDirectory(prefix="corral-fit-") as folder:
        try:
            path = fit_tools.stand_in(shards, Path(folder))
        except OSError as error:
            why = f"{error.strerror}: no stand-in for the remote file"
            return _by_metadata(name, shards[0][0], shape, wish.of(shape), why)
        return _subject(name, path, shape, wish.of(shape), bin_dir)


def _subject(name: str, path: Path, shape: Shape, serving: Serving, bin_dir: Path) -> Subject:
    _check(path, shape)
    try:
        need = fit_tools.measured_need(bin_dir, path, serving.context, serving.slots, shape.weights)
    except CorralError as error:
        return _by_metadata(name, path.name, shape, serving, error.message)
    made = Subject(name, path.name, shape, file_type(shape), serving, need, ())
    if made.type not in UNQUANTISED:
        return replace(made, candidates=(Candidate(made.type, shape.weights),))
    others = fit_tools.quantised(bin_dir, path)
    whole = [] if made.type == "F16" else [Candidate(made.type, shape.weights)]
    return replace(made, candidates=(*whole, *others))


def _by_metadata(name: str, file: str, shape: Shape, serving: Serving, why: str) -> Subject:
    _check(Path(file), shape)
    kind = file_type(shape)
    need = need_of(shape, serving.context, serving.slots)
    note = f"estimated from the metadata alone: {why}"
    return Subject(
        name, file, shape, kind, serving, need, (Candidate(kind, shape.weights),), (note,)
    )


def _check(path: Path, shape: Shape) -> None:
    if shape.header.is_adapter:
        raise BadRequest(f"{path} is an adapter: ask about its base model", param="name")
    if not shape.tensors or shape.layers <= 0 or shape.hidden <= 0:
        raise InvalidModel(
            f"{path} has no weights or says nothing of its shape "
            f"(`{shape.architecture}.block_count`, `.embedding_length`); fetch or convert it again",
            param=str(path),
        )


def file_type(shape: Shape) -> str:
    """The type a file is called by, `Q4_K_M`; of unnamed ones the type of most of the weights."""
    from gguf.constants import GGMLQuantizationType, LlamaFileType

    number = shape.header.metadata.get("general.file_type")
    names = {int(member): member.name for member in LlamaFileType}
    if isinstance(number, int) and number in names:
        return str(names[number]).removeprefix("MOSTLY_").removeprefix("ALL_")
    largest = max(shape.tensors, key=lambda tensor: tensor.bytes)
    return str(GGMLQuantizationType(largest.type).name)


def _offered(listing: Listing, choice: Choice, quant: str) -> list[Candidate]:
    """What the repository itself holds; one where a quantisation was asked for."""
    if quant:
        return [Candidate(quant, sum(f.size for f in choice.weights), choice.weights[0].path)]
    firsts: dict[str, RepoFile] = {}
    for file in listing.files:
        if file.is_model:
            firsts.setdefault(file.quant or file.name, file)
    return [
        Candidate(label, size, firsts[label].path)
        for label, size in sorted(listing.quants().items(), key=lambda item: -item[1])
    ]


def _url(access: HubAccess, listing: Listing, file: RepoFile) -> str:
    commit = listing.commit or "main"
    return f"{access.endpoint}/{listing.repo}/resolve/{commit}/{quote(file.path)}"
