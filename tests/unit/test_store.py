"""The registry: what an add leaves, what a name means, what may be removed."""

import errno
import os
import threading
from pathlib import Path

import pytest

from corral.errors import Conflict, DiskFullError, InvalidModel, ModelNotFound
from corral.registry.artifact import Artifact
from corral.registry.blobs import SPARE_BYTES, BlobStore
from corral.registry.manifest import BaseOf, Manifest, ManifestFile
from corral.registry.store import Registry
from corral.settings import Settings
from tests.fakes.artifacts import adapter, base_model, split_model
from tests.fakes.gguf_file import gguf, write_model


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", bundled_models_dir=tmp_path / "bundled")


@pytest.fixture
def registry(settings: Settings) -> Registry:
    return Registry(settings)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


def files_under(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def blobs_of(registry: Registry) -> list[str]:
    return sorted(path.name for path in (registry.blobs.blobs / "sha256").glob("*/*"))


# ---- add ---------------------------------------------------------------------------------------


def test_reading_an_empty_registry_makes_nothing(settings: Settings, registry: Registry) -> None:
    assert registry.list() == []
    assert registry.version() == 0
    assert registry.aliases() == {}
    assert registry.verify() == []
    assert registry.gc().removed == ()
    with pytest.raises(ModelNotFound, match="holds no model `x`; it holds: none"):
        registry.get("x")
    assert not settings.data_dir.exists()


def test_an_added_model_is_there_whole(registry: Registry, inbox: Path) -> None:
    added = registry.add(base_model(inbox, description="small", metrics={"ppl": 2.5}), inbox)
    assert registry.get("tiny") == added
    assert registry.list() == [added]
    assert registry.list("adapter") == []
    manifest = added.manifest
    assert (manifest.revision, manifest.owner, manifest.description) == (1, "local", "small")
    assert manifest.metrics == {"ppl": 2.5}
    assert manifest.created is not None
    (file,) = manifest.files
    assert file.bytes == (inbox / "tiny.gguf").stat().st_size
    assert added.weights.read_bytes() == (inbox / "tiny.gguf").read_bytes()
    assert added.weights.name == "tiny.gguf"
    assert added.weights.samefile(registry.blobs.path(file.sha256))
    assert added.weights.stat().st_mode & 0o777 == 0o444
    assert added.facts["context_length"] == 4096
    assert files_under(registry.blobs.incoming) == []
    assert registry.version() == 1


def test_the_source_stays_without_move_and_goes_with_it(registry: Registry, inbox: Path) -> None:
    manifest = base_model(inbox)
    registry.add(manifest, inbox)
    assert (inbox / "tiny.gguf").stat().st_mode & 0o200
    other = base_model(inbox, "other", "two")
    inode = (inbox / "other.gguf").stat().st_ino
    moved = registry.add(other, inbox, move=True)
    assert files_under(inbox) == ["tiny.gguf"]
    assert moved.weights.stat().st_ino == inode, "moved, not copied"


def test_a_file_with_another_name_is_copied_even_when_moved(
    registry: Registry, inbox: Path, tmp_path: Path
) -> None:
    """Whoever holds the other name could write into the blob."""
    manifest = base_model(inbox)
    os.link(inbox / "tiny.gguf", tmp_path / "mine.gguf")
    added = registry.add(manifest, inbox, move=True)
    assert not added.weights.samefile(tmp_path / "mine.gguf")
    assert os.access(tmp_path / "mine.gguf", os.W_OK)


def test_the_same_content_again_changes_nothing(registry: Registry, inbox: Path) -> None:
    first = registry.add(base_model(inbox), inbox)
    assert registry.add(base_model(inbox), inbox) == first
    assert registry.version() == 1
    assert [folder.name for folder in registry.blobs.shelf.iterdir()] == [first.id]


def test_what_is_said_of_the_same_content_is_merged(registry: Registry, inbox: Path) -> None:
    first = registry.add(base_model(inbox, description="d", metrics={"ppl": 2.0}), inbox)
    known = first.manifest.model_copy(update={"metrics": {"kld": 0.1}, "description": ""})
    again = registry.add(known, inbox.parent / "empty", move=True)
    assert (again.id, again.manifest.revision) == (first.id, 1)
    assert again.manifest.metrics == {"ppl": 2.0, "kld": 0.1}
    assert again.manifest.description == "d"
    assert registry.get("tiny") == again


def test_other_content_is_the_next_revision(registry: Registry, inbox: Path) -> None:
    first = registry.add(base_model(inbox), inbox)
    second = registry.add(base_model(inbox, text="two"), inbox)
    assert (second.manifest.revision, registry.get("tiny").id) == (2, second.id)
    assert [a.id for a in registry.revisions("tiny")] == [second.id, first.id]
    assert registry.get("tiny", 1) == first
    assert first.weights.exists()
    assert registry.version() == 2
    with pytest.raises(ModelNotFound, match="`tiny` has no revision 3; it has: 1, 2"):
        registry.get("tiny", 3)


def test_replace_forgets_earlier_revisions(registry: Registry, inbox: Path) -> None:
    first = registry.add(base_model(inbox), inbox)
    second = registry.add(base_model(inbox, text="two"), inbox, replace=True)
    assert registry.revisions("tiny") == [second]
    assert second.manifest.revision == 2
    assert not first.folder.exists()
    assert [path.name for path, _ in registry.gc().removed] == [first.main[0].sha256]


def test_all_shards_of_a_model_are_one_artifact(registry: Registry, inbox: Path) -> None:
    added = registry.add(split_model(inbox), inbox)
    assert added.weights.name == "big-00001-of-00003.gguf"
    assert len(list(added.folder.iterdir())) == 3


def test_one_blob_serves_two_names(registry: Registry, inbox: Path) -> None:
    a = registry.add(base_model(inbox, "a"), inbox)
    b = registry.add(base_model(inbox, "b"), inbox)
    assert a.weights.samefile(b.weights)
    assert len(blobs_of(registry)) == 1
    registry.remove("a")
    assert registry.gc().removed == ()
    assert b.weights.exists()


def test_an_adapter_learns_the_hash_of_its_base(registry: Registry, inbox: Path) -> None:
    base = registry.add(base_model(inbox), inbox)
    tuned = registry.add(adapter(inbox, "ft:tiny:local::1"), inbox)
    assert tuned.manifest.base == BaseOf(name="tiny", sha256=base.main[0].sha256)


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "a/b", "..", ".x", "-x", "", "a b", "a:b", "x" * 201, "a\n"]
)
def test_a_name_that_is_none_is_refused(registry: Registry, inbox: Path, name: str) -> None:
    manifest = base_model(inbox).model_copy(update={"name": name})
    with pytest.raises(InvalidModel) as refused:
        registry.add(manifest, inbox)
    assert refused.value.message == (
        f"`{name}` is no name for a model; allowed: 1 to 200 letters, digits, `.`, `_`, `-`; the "
        "first a letter or digit"
    )


@pytest.mark.parametrize("name", ["../x.gguf", "/etc/passwd", "a/b.gguf", "..", "", "a;b.gguf"])
def test_a_file_outside_its_folder_cannot_even_be_said(name: str) -> None:
    with pytest.raises(ValueError, match="String should match pattern"):
        ManifestFile(name=name)


def broken(inbox: Path, content: bytes) -> Manifest:
    (inbox / "tiny.gguf").write_bytes(content)
    return Manifest(name="tiny", files=(ManifestFile(name="tiny.gguf"),))


HUGE = b"GGUF\x03\0\0\0" + (1 << 60).to_bytes(8, "little") + bytes(8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gguf()[:-1], "is corrupt or truncated: the last 1 bytes of the weights are missing"),
        (b"PK\x03\x04 zip", r"is no GGUF: it begins with b'PK\x03\x04', not b'GGUF'; convert it"),
        (HUGE, "the tensor count is 1152921504606846976, at most 1048576 is allowed (at byte 16"),
        (b"", "is corrupt or truncated: it is empty (at byte 0 of 0); fetch or convert it again"),
    ],
    ids=["truncated", "wrong-magic", "huge-count", "empty"],
)
def test_a_bad_file_is_refused_and_leaves_nothing(
    registry: Registry, inbox: Path, content: bytes, message: str
) -> None:
    with pytest.raises(InvalidModel) as refused:
        registry.add(broken(inbox, content), inbox)
    assert refused.value.message.startswith(f"model file {inbox / 'tiny.gguf'} is ")
    assert message in refused.value.message
    assert registry.list() == []
    assert blobs_of(registry) == []
    assert files_under(registry.blobs.incoming) == []


def test_a_missing_shard_is_named(registry: Registry, inbox: Path) -> None:
    manifest = split_model(inbox)
    (inbox / "big-00002-of-00003.gguf").unlink()
    with pytest.raises(InvalidModel) as refused:
        registry.add(manifest, inbox)
    missing = inbox / "big-00002-of-00003.gguf"
    assert refused.value.message == f"model file {missing} is missing"
    two = manifest.model_copy(update={"files": manifest.files[::2]})
    with pytest.raises(InvalidModel) as refused:
        registry.add(two, inbox)
    assert refused.value.message == (
        "big-00001-of-00003.gguf: the shard big-00002-of-00003.gguf is missing; add all shards "
        "together"
    )


def test_a_shard_under_another_name_is_refused(registry: Registry, inbox: Path) -> None:
    write_model(inbox / "whole.gguf", {"split.count": 3})
    manifest = Manifest(name="whole", files=(ManifestFile(name="whole.gguf"),))
    with pytest.raises(InvalidModel, match="says that it is one of 3 parts, 1 files are given"):
        registry.add(manifest, inbox)


def test_a_wrong_hash_is_refused(registry: Registry, inbox: Path) -> None:
    manifest = base_model(inbox)
    wrong = manifest.files[0].model_copy(update={"sha256": "0" * 64})
    with pytest.raises(InvalidModel, match=f"not {'0' * 64} as its manifest says"):
        registry.add(manifest.model_copy(update={"files": (wrong,)}), inbox)
    assert files_under(registry.blobs.incoming) == []


def test_kind_and_file_must_agree(registry: Registry, inbox: Path) -> None:
    tuned = adapter(inbox)
    with pytest.raises(InvalidModel, match="adapter `tuned` names no base model"):
        registry.add(tuned.model_copy(update={"base": None}), inbox)
    base_model(inbox)
    not_one = tuned.model_copy(update={"files": (ManifestFile(name="tiny.gguf", role="adapter"),)})
    with pytest.raises(InvalidModel, match=r"tiny\.gguf is listed as an adapter but is a whole"):
        registry.add(not_one, inbox)
    not_whole = Manifest(name="m", files=(ManifestFile(name="tuned.gguf"),))
    with pytest.raises(InvalidModel, match=r"tuned\.gguf is listed as a model but is an adapter"):
        registry.add(not_whole, inbox)
    with pytest.raises(InvalidModel, match="lists no file of the role `weights`"):
        registry.add(tuned.model_copy(update={"kind": "base"}), inbox)
    twice = tuned.model_copy(update={"files": tuned.files * 2})
    with pytest.raises(InvalidModel, match=r"lists tuned\.gguf twice"):
        registry.add(twice, inbox)


def test_a_name_that_is_taken_is_refused(
    registry: Registry, inbox: Path, settings: Settings
) -> None:
    write_model(settings.bundled_models_dir / "b.gguf")
    (settings.bundled_models_dir / "models.toml").write_text("[models.own]\nfile = 'b.gguf'")
    with pytest.raises(Conflict, match="`own` is a model that comes with Corral; choose another"):
        registry.add(base_model(inbox, "own"), inbox)
    registry.add(base_model(inbox), inbox)
    registry.alias("nick", "tiny")
    with pytest.raises(Conflict, match=r"`nick` is an alias of `tiny`; .*models alias nick --rm"):
        registry.add(base_model(inbox, "nick"), inbox)
    with pytest.raises(Conflict, match="`tiny` is of the kind `base`, not `adapter`"):
        registry.add(adapter(inbox, "tiny", "other"), inbox)


def test_too_little_room_is_told_before_the_first_byte(
    registry: Registry, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = base_model(inbox)
    size = (inbox / "tiny.gguf").stat().st_size
    monkeypatch.setattr(BlobStore, "free", lambda self: 1000)
    with pytest.raises(DiskFullError) as refused:
        registry.add(manifest, inbox)
    assert refused.value.message == (
        f"the disk of {registry.blobs.root} is full: {size + SPARE_BYTES:,} bytes are needed, "
        "1,000 are free; `corral models gc` and `corral models rm NAME` make room, or set "
        "CORRAL_DATA to a larger disk"
    )
    assert files_under(registry.blobs.incoming) == []


def test_a_disk_that_fills_up_leaves_nothing(
    registry: Registry, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = base_model(inbox)

    def write_some(self: BlobStore, source: Path, part: Path, on_bytes: object) -> str:
        part.write_bytes(b"some")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(BlobStore, "_write", write_some)
    with pytest.raises(
        DiskFullError, match=rf"the disk of {registry.blobs.root} is full: [\d,]+ a"
    ):
        registry.add(manifest, inbox)
    assert files_under(registry.blobs.incoming) == []
    assert registry.list() == []


def test_a_store_of_another_database_is_left_alone(registry: Registry, inbox: Path) -> None:
    """A lost database would make every blob look like garbage."""
    registry.add(base_model(inbox), inbox)
    for path in registry.blobs.root.glob("corral.db*"):
        path.unlink()
    message = r"blobs belong to another database: restore it, or set CORRAL_DATABASE_URL to it"
    with pytest.raises(Conflict, match=message):
        registry.gc()
    with pytest.raises(Conflict, match=message):
        registry.add(base_model(inbox), inbox)
    with pytest.raises(Conflict, match=message):
        registry.gc()
    assert len(blobs_of(registry)) == 1


# ---- remove, alias, collect --------------------------------------------------------------------


def test_a_base_stays_while_adapters_need_it(registry: Registry, inbox: Path) -> None:
    registry.add(base_model(inbox), inbox)
    registry.add(adapter(inbox, "one"), inbox)
    registry.add(adapter(inbox, "two"), inbox)
    with pytest.raises(Conflict) as refused:
        registry.remove("tiny")
    assert refused.value.message == (
        "`tiny` is the base of `one`, `two`, which cannot be served without it; remove them "
        "first, or use --force"
    )
    assert [a.name for a in registry.remove("tiny", force=True)] == ["tiny"]
    assert [a.name for a in registry.list()] == ["one", "two"]


def test_removing_the_newest_revision_brings_the_one_before(
    registry: Registry, inbox: Path
) -> None:
    first = registry.add(base_model(inbox), inbox)
    registry.add(adapter(inbox), inbox)
    second = registry.add(base_model(inbox, text="two"), inbox)
    assert registry.remove("tiny", revision=2) == [second]
    assert registry.get("tiny") == first
    assert not second.folder.exists()
    assert registry.version() == 4
    third = registry.add(base_model(inbox, text="two"), inbox)
    assert third.manifest.revision == 2


def test_earlier_revisions_survive_a_collection(registry: Registry, inbox: Path) -> None:
    one = registry.add(base_model(inbox), inbox)
    registry.add(base_model(inbox, text="two"), inbox)
    assert registry.gc().removed == ()
    assert registry.verify() == []
    registry.remove("tiny", revision=2)
    registry.gc()
    assert registry.get("tiny").id == one.id
    assert registry.verify() == []


def test_aliases_come_and_go(registry: Registry, inbox: Path) -> None:
    registry.add(base_model(inbox), inbox)
    registry.alias("gpt-4o", "tiny")
    registry.alias("gpt-4o", "elsewhere")
    registry.alias("short", "tiny")
    assert registry.aliases() == {"gpt-4o": "elsewhere", "short": "tiny"}
    registry.alias("gpt-4o", None)
    assert registry.version() == 5
    with pytest.raises(ModelNotFound, match="there is no alias `gpt-4o` to remove"):
        registry.alias("gpt-4o", None)
    with pytest.raises(Conflict, match="`tiny` is a model here; choose another alias"):
        registry.alias("tiny", "other")
    registry.remove("tiny")
    assert registry.aliases() == {}


def test_only_what_no_model_needs_is_collected(registry: Registry, inbox: Path) -> None:
    kept = registry.add(base_model(inbox), inbox)
    gone = registry.add(base_model(inbox, "gone", "two"), inbox)
    registry.remove("gone")
    torn = registry.blobs.incoming / "torn"
    torn.write_bytes(b"x" * 100)
    stray = registry.blobs.shelf / "astray"
    stray.mkdir()
    blob = registry.blobs.path(gone.main[0].sha256)
    expected = ((torn, 100), (stray, 0), (blob, gone.bytes))
    before = files_under(registry.blobs.root)
    assert registry.gc(dry_run=True).removed == expected
    assert files_under(registry.blobs.root) == before
    collected = registry.gc()
    assert (collected.removed, collected.bytes) == (expected, 100 + gone.bytes)
    assert registry.gc().removed == ()
    assert registry.verify() == []
    assert kept.weights.exists()


# ---- at once -----------------------------------------------------------------------------------


class Pause:
    """Stops an add right after one step, until released."""

    def __init__(self, step: str) -> None:
        self._step = step
        self.reached, self.go = threading.Event(), threading.Event()

    def __call__(self, step: str) -> None:
        if step == self._step:
            self.reached.set()
            assert self.go.wait(30)


def adding(
    registry: Registry, manifest: Manifest, folder: Path
) -> tuple[threading.Thread, list[Artifact]]:
    done: list[Artifact] = []
    thread = threading.Thread(target=lambda: done.append(registry.add(manifest, folder)))
    thread.start()
    return thread, done


@pytest.mark.parametrize("step", ["blob written", "blob named", "shelf folder on disk"])
def test_two_adders_of_one_content_make_one_artifact(
    settings: Settings, inbox: Path, step: str
) -> None:
    """The first is held at a step while the second runs to its end."""
    pause = Pause(step)
    manifest = base_model(inbox)
    thread, done = adding(Registry(settings, pause), manifest, inbox)
    assert pause.reached.wait(30)
    second = Registry(settings).add(manifest, inbox)
    pause.go.set()
    thread.join()
    registry = Registry(settings)
    assert done == [second] == registry.everything()
    assert (registry.version(), len(blobs_of(registry))) == (1, 1)
    assert registry.verify() == []
    assert registry.gc().removed == ()


@pytest.mark.parametrize("step", ["temporary made", "blob named", "row written"])
def test_a_collector_waits_for_an_add(settings: Settings, inbox: Path, step: str) -> None:
    """The add is held where its files are named by no row yet."""
    pause = Pause(step)
    thread, done = adding(Registry(settings, pause), base_model(inbox), inbox)
    assert pause.reached.wait(30)
    registry = Registry(settings)
    assert not registry.gc(wait=False).done
    collected = []
    collector = threading.Thread(target=lambda: collected.append(registry.gc()))
    collector.start()
    pause.go.set()
    thread.join()
    collector.join()
    assert [c.removed for c in collected] == [()]
    assert registry.list() == done
    assert registry.verify() == []


def test_an_add_waits_for_a_collector(settings: Settings, inbox: Path) -> None:
    registry = Registry(settings)
    registry.add(base_model(inbox, "gone"), inbox)
    registry.remove("gone")
    pause = Pause("garbage removed")
    collector = threading.Thread(target=Registry(settings, pause).gc)
    collector.start()
    assert pause.reached.wait(30)
    thread, done = adding(registry, base_model(inbox, "gone"), inbox)
    assert not done
    pause.go.set()
    collector.join()
    thread.join()
    assert registry.list() == done
    assert registry.verify() == []
