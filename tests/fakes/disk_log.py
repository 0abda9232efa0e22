"""What a piece of code does to the disk, in order: which names it flushes, links and renames."""

import os
from pathlib import Path

import pytest


class DiskLog:
    """Notes `flush NAME`, `link NAME`, `rename NAME` of what is under `root`; a folder is `NAME/`."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.said: list[str] = []
        fsync, link, replace = os.fsync, os.link, os.replace

        def noting_fsync(handle: int) -> None:
            fsync(handle)
            self.said.append(f"flush {self._name(os.fstat(handle).st_ino)}")

        def noting_link(source: Path, target: Path) -> None:
            link(source, target)
            self.said.append(f"link {Path(target).name}")

        def noting_replace(source: Path, target: Path) -> None:
            replace(source, target)
            self.said.append(f"rename {Path(source).name}")

        patch.setattr(os, "fsync", noting_fsync)
        patch.setattr(os, "link", noting_link)
        patch.setattr(os, "replace", noting_replace)

    def _name(self, inode: int) -> str:
        for path in [self.root, *sorted(self.root.rglob("*"))]:
            if path.lstat().st_ino == inode:
                return path.name + ("/" if path.is_dir() else "")
        return "a file with no name"
