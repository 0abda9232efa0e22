"""The registry: artifacts by name, their files in the blob store, their manifests in the database.

An artifact is there when its row is committed, and not before. The order of an add: blobs, then the
files on the shelf, then the row; of a removal: the row, then the files. What a killed process leaves
is named by no row, and `gc` removes it. Synchronous: call it from async code through a thread.
"""

import builtins
import secrets
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection

from corral import database
from corral.errors import Conflict, ModelNotFound
from corral.registry import bundled, intake, rows
from corral.registry.artifact import Artifact, Collected, content, merge
from corral.registry.blobs import AtStep, BlobStore
from corral.registry.catalog import WITH_TOOLS
from corral.registry.disk import OnBytes, ignore
from corral.registry.manifest import ArtifactKind, BaseOf, Manifest, ManifestFile, now
from corral.registry.verify import Checker, Finding
from corral.settings import Settings


class Registry:
    """The artifacts of one data directory. Cheap to make; makes no file before the first change."""

    def __init__(self, settings: Settings, at_step: AtStep = ignore) -> None:
        self._settings = settings
        self._at_step = at_step
        self.blobs = BlobStore(settings.data_dir, at_step)

    def add(
        self,
        manifest: Manifest,
        folder: Path,
        *,
        move: bool = False,
        replace: bool = False,
        on_bytes: OnBytes = ignore,
    ) -> Artifact:
        """Register what `manifest` says, with its files from `folder`; the artifact as registered.

        Blocks for as long as copying and hashing take. The same content under the same name is no
        new revision; what the manifest says beyond the content (metrics, description …) is merged
        into the recorded one, and files missing from the shelf are set out again. Other content is
        the next revision; the earlier ones stay unless `replace`. A file that is not in `folder` may
        already be a blob by its sha256. With `move` the files of `folder` are gone afterwards, and
        only after the artifact is registered: repeating a killed add needs their sha256.
        """
        intake.check_name(manifest.name, manifest.kind)
        self._check_not_bundled(manifest.name)
        with self.blobs.adding(self._database_id()):
            paths = intake.locate(manifest, folder, self.blobs)
            facts = intake.check(manifest, paths)
            if not move:
                self.blobs.check_space(sum(self._to_copy(f, paths) for f in manifest.files))
            files = tuple(self._put(f, paths[f.name], move, on_bytes) for f in manifest.files)
            whole = self._completed(manifest, files)
            artifact = self._publish(whole, facts, replace)
        if move:
            for name in paths:
                (folder / name).unlink(missing_ok=True)
                self._at_step("source removed")
        return artifact

    def get(self, name: str, revision: int | None = None) -> Artifact:
        """The newest revision of `name`, or the one asked for; ModelNotFound lists what there is."""
        found = [a for a in self.revisions(name) if revision in (None, a.manifest.revision)]
        if not found:
            raise ModelNotFound(self._unknown(name, revision), param="model")
        return found[0]

    def revisions(self, name: str) -> builtins.list[Artifact]:
        """Every revision of `name`, the newest first; empty when there is none."""
        return self._read(lambda connection: rows.of_name(connection, name))

    def list(self, kind: ArtifactKind | None = None) -> builtins.list[Artifact]:
        """The newest revision of every name, by name."""
        found = self._read(rows.newest)
        return [artifact for artifact in found if kind in (None, artifact.manifest.kind)]

    def everything(self) -> builtins.list[Artifact]:
        """Every revision of every name."""
        return self._read(rows.everything)

    def version(self) -> int:
        """Grows with every change of what is served; 0 before the first."""
        if not database.exists(self._settings):
            return 0
        with database.reading(database.ready(self._settings)) as connection:
            return rows.version(connection)

    def aliases(self) -> dict[str, str]:
        """Alias -> name of a model, which may be bundled or gone."""
        if not database.exists(self._settings):
            return {}
        with database.reading(database.ready(self._settings)) as connection:
            return rows.all_aliases(connection)

    def alias(self, name: str, target: str | None) -> None:
        """Let `name`, or `name+tools` for requests with tools, mean the model `target`; without a target, no longer."""
        intake.check_name(name.removesuffix(WITH_TOOLS), "adapter")
        self._check_not_bundled(name)
        with database.writing(database.ready(self._settings)) as connection:
            if rows.of_name(connection, name):
                raise Conflict(f"`{name}` is a model here; choose another alias", param="name")
            if target is None and name not in rows.all_aliases(connection):
                raise ModelNotFound(f"there is no alias `{name}` to remove", param="name")
            rows.set_alias(connection, name, target)
            rows.count_change(connection)

    def remove(
        self, name: str, *, revision: int | None = None, force: bool = False
    ) -> builtins.list[Artifact]:
        """Forget `name`, or one revision of it, and take its files off the shelf; what was removed.

        Refuses while adapters need it, unless `force`. Removing the newest of several revisions
        makes the one before it the one that is served. Aliases go with the last. The blobs stay
        until `gc`.
        """
        self.get(name, revision)
        with database.writing(database.ready(self._settings)) as connection:
            there = [self._artifact(row) for row in rows.of_name(connection, name)]
            gone = [a for a in there if revision in (None, a.manifest.revision)]
            if len(gone) == len(there):
                self._check_unneeded(connection, name, force)
                rows.drop_aliases_of(connection, name)
            rows.drop(connection, [artifact.id for artifact in gone])
            rows.count_change(connection)
            self._at_step("row removed")
        self._at_step("removal committed")
        for artifact in gone:
            self.blobs.take_in(artifact.id)
            self._at_step("files taken in")
        return gone

    def gc(self, dry_run: bool = False, *, wait: bool = True) -> Collected:
        """Remove what no row names: blobs, files on the shelf, leftovers of killed processes.
        Waits for adds that are going on, unless `wait` is off."""
        known = self._database_id() if database.exists(self._settings) else ""
        with self.blobs.collecting(known, wait=wait) as held:
            if not held:
                return Collected(done=not self.blobs.blobs.is_dir())
            artifacts = self.everything()
            folders = {artifact.id for artifact in artifacts}
            hashes = {file.sha256 for a in artifacts for file in a.manifest.files}
            removed = []
            for path, size in self.blobs.garbage(folders, hashes):
                removed.append((path, size))
                if not dry_run:
                    self.blobs.remove(path)
        return Collected(tuple(removed))

    def verify(self, name: str | None = None, on_bytes: OnBytes = ignore) -> builtins.list[Finding]:
        """Hash every file again, of one name or of all; what is wrong. Takes as long as reading."""
        if name is not None:
            self.get(name)
        checker = Checker(on_bytes)
        checked = self.everything() if name is None else self.revisions(name)
        return [
            finding
            for artifact in checked
            for finding in checker.artifact(
                artifact, {f.name: self.blobs.path(f.sha256) for f in artifact.manifest.files}
            )
        ]

    def _put(self, file: ManifestFile, path: Path, move: bool, on_bytes: OnBytes) -> ManifestFile:
        sha256, size = self.blobs.put(path, move=move, sha256=file.sha256, on_bytes=on_bytes)
        return file.model_copy(update={"sha256": sha256, "bytes": size})

    def _to_copy(self, file: ManifestFile, paths: dict[str, Path]) -> int:
        there = file.sha256 and self.blobs.path(file.sha256).exists()
        return 0 if there else paths[file.name].stat().st_size

    def _completed(self, manifest: Manifest, files: tuple[ManifestFile, ...]) -> Manifest:
        """The manifest with hashes, sizes, time, and the hash of its base where that is known."""
        base = manifest.base
        if base is not None and not base.sha256:
            base = BaseOf(name=base.name, sha256=self._first_hash(base.name))
        return manifest.model_copy(update={"files": files, "base": base, "created": now()})

    def _first_hash(self, name: str) -> str:
        there = self.revisions(name)
        if there:
            return there[0].main[0].sha256
        entry = bundled.entries(self._settings.bundled_models_dir).get(name, {})
        return str(entry.get("sha256", ""))

    def _publish(self, manifest: Manifest, facts: intake.Facts, replace: bool) -> Artifact:
        id = f"a{secrets.token_hex(8)}"
        self.blobs.set_out(id, {file.name: file.sha256 for file in manifest.files})
        with database.writing(database.ready(self._settings)) as connection:
            there = [self._artifact(row) for row in rows.of_name(connection, manifest.name)]
            kept = self._same(connection, manifest, there[:1])
            if kept is None:
                self._check_room(connection, manifest, there[:1])
                revision = there[0].manifest.revision + 1 if there else 1
                manifest = manifest.model_copy(update={"revision": revision})
                rows.add(connection, id, manifest, facts)
                rows.count_change(connection)
            older = [a.id for a in there if replace and (kept is None or a.id != kept.id)]
            if older:
                rows.drop(connection, older)
            self._at_step("row written")
        self._at_step("committed")
        for folder in older if kept is None else [*older, id]:
            self.blobs.take_in(folder)
        if kept is not None:
            lost = [f for f in kept.manifest.files if not kept.path(f).exists()]
            self.blobs.set_out(kept.id, {file.name: file.sha256 for file in lost})
        return kept or Artifact(id, manifest, self.blobs.shelf / id, facts)

    def _same(
        self, connection: Connection, manifest: Manifest, newest: builtins.list[Artifact]
    ) -> Artifact | None:
        """The newest revision, if it has this content already; then what else is said is merged."""
        if not newest or content(newest[0].manifest) != content(manifest):
            return None
        merged = merge(newest[0].manifest, manifest)
        if merged != newest[0].manifest:
            rows.set_manifest(connection, newest[0].id, merged)
        return Artifact(newest[0].id, merged, newest[0].folder, newest[0].facts)

    def _check_room(
        self, connection: Connection, manifest: Manifest, newest: builtins.list[Artifact]
    ) -> None:
        target = rows.all_aliases(connection).get(manifest.name)
        if target is not None:
            raise Conflict(
                f"`{manifest.name}` is an alias of `{target}`; choose another name, or remove it "
                f"first: corral models alias {manifest.name} --rm",
                param="name",
            )
        if newest and newest[0].manifest.kind != manifest.kind:
            raise Conflict(
                f"`{manifest.name}` is of the kind `{newest[0].manifest.kind}`, not "
                f"`{manifest.kind}`; choose another name",
                param="name",
            )

    def _check_not_bundled(self, name: str) -> None:
        if name in bundled.entries(self._settings.bundled_models_dir):
            raise Conflict(
                f"`{name}` is a model that comes with Corral; choose another name", param="name"
            )

    def _check_unneeded(self, connection: Connection, name: str, force: bool) -> None:
        adapters = rows.adapters_of(connection, name)
        if adapters and not force:
            named = ", ".join(f"`{adapter}`" for adapter in adapters)
            raise Conflict(
                f"`{name}` is the base of {named}, which cannot be served without it; remove them "
                "first, or use --force",
                param="name",
            )

    def _unknown(self, name: str, revision: int | None) -> str:
        there = self.revisions(name)
        if there:
            numbers = ", ".join(str(a.manifest.revision) for a in reversed(there))
            return f"`{name}` has no revision {revision}; it has: {numbers}"
        known = ", ".join(f"`{artifact.name}`" for artifact in self.list()) or "none"
        return f"the registry holds no model `{name}`; it holds: {known}"

    def _database_id(self) -> str:
        with database.reading(database.ready(self._settings)) as connection:
            return rows.database_id(connection)

    def _read(
        self, select: Callable[[Connection], builtins.list[rows.ArtifactRow]]
    ) -> builtins.list[Artifact]:
        if not database.exists(self._settings):
            return []
        with database.reading(database.ready(self._settings)) as connection:
            return [self._artifact(row) for row in select(connection)]

    def _artifact(self, row: rows.ArtifactRow) -> Artifact:
        manifest = Manifest.model_validate(row.manifest)
        return Artifact(row.id, manifest, self.blobs.shelf / row.id, dict(row.facts))
