"""Which files of a folder are read, and what becomes of the others."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from corral.datasets.findings import Findings
from corral.datasets.sources.chunks import Plan
from corral.datasets.sources.folder import Options, Passage, Reading, passages, write_texts
from corral.errors import Conflict, InvalidData


def read(folder: Path, **options: Any) -> tuple[list[Passage], Reading, dict[str, str]]:
    findings, reading = Findings(), Reading()
    plan = options.pop("plan", Plan(1000))
    found = list(passages(folder, Options(plan, **options), findings, reading))
    return found, reading, {finding.file: finding.message for finding in findings.kept}


def files(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_documents_in_order_with_their_metadata(tmp_path: Path) -> None:
    files(
        tmp_path,
        b_md="---\ntitle: Bee\nsource: mine\n---\n# B\n\ntext b",
        sub__dir__a_txt="text a",
        c_py="print()",
    )
    found, reading, said = read(tmp_path)
    assert [passage.text for passage in found] == ["# B\n\ntext b", "text a"]
    assert [passage.metadata for passage in found] == [
        {"title": "Bee", "source": "b.md", "chunk": 1, "headings": ["B"]},
        {"source": "sub/dir/a.txt", "topics": ["sub", "dir"], "chunk": 1},
    ]
    assert reading == Reading(files=2, unreadable=0, passed_over=1, chunks=2)
    assert said == {}


def test_a_chunk_from_the_middle_of_a_section_says_where_it_stands(tmp_path: Path) -> None:
    paragraphs = "\n\n".join(f"Paragraph {n} of this section." for n in range(3))
    files(tmp_path, a_md=f"# Title\n\n## Part\n\n{paragraphs}")
    texts = [passage.text for passage in read(tmp_path, plan=Plan(40))[0]]
    assert texts[-1] == "Title > Part\n\nParagraph 2 of this section."
    bare = [passage.text for passage in read(tmp_path, plan=Plan(40), headings=False)[0]]
    assert bare[-1] == "Paragraph 2 of this section."


def test_unreadable_files_are_named_with_the_reason_and_the_rest_goes_on(tmp_path: Path) -> None:
    files(tmp_path, a_md="---\na: [\n---\nx", z_txt="fine")
    (tmp_path / "b.txt").write_bytes(b"\xff")
    (tmp_path / "c.pdf").write_bytes(b"no pdf")
    (tmp_path / "d.txt").write_bytes(b"x" * 101)
    os.mkfifo(tmp_path / "e.txt")
    found, reading, said = read(tmp_path, max_file_bytes=100)
    assert [passage.text for passage in found] == ["fine"]
    assert (reading.files, reading.unreadable) == (1, 5)
    assert set(said) == {"a.md", "b.txt", "c.pdf", "d.txt", "e.txt"}
    assert said["d.txt"] == "101 bytes; at most 100 are taken (--max-file-mb), or split the file"
    assert said["e.txt"] == "not a regular file"
    assert "not UTF-8" in said["b.txt"]


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    files(inside, a_txt="inside")
    files(outside, secret_txt="secret")
    (inside / "link.txt").symlink_to(outside / "secret.txt")
    (inside / "folder").symlink_to(outside, target_is_directory=True)
    (inside / "again.txt").symlink_to(inside / "a.txt")
    (inside / "loop").symlink_to(inside, target_is_directory=True)
    (inside / "gone.txt").symlink_to(inside / "nothing.txt")
    found, _, said = read(inside)
    assert [passage.text for passage in found] == ["inside", "inside"]
    assert said == {
        "link.txt": "a link that leads out of the folder",
        "gone.txt": "not a regular file",
    }


def test_hidden_files_are_read_only_when_asked_for(tmp_path: Path) -> None:
    files(tmp_path, a_txt="seen", _hidden_txt="hidden", _git__b_txt="in a hidden folder")
    assert [passage.text for passage in read(tmp_path)[0]] == ["seen"]
    assert len(read(tmp_path, hidden=True)[0]) == 3


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="is no folder"):
        read(tmp_path / "none")


def passage(text: str) -> Passage:
    return Passage(text, {"source": "a.md", "chunk": 1})


def test_texts_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    out, findings = tmp_path / "out.jsonl", Findings()
    assert write_texts([passage("a"), passage("b")], out, "mlx-text", findings) == 2
    assert [json.loads(line)["text"] for line in out.read_text().splitlines()] == ["a", "b"]
    with pytest.raises(Conflict, match="--overwrite"):
        write_texts([passage("c")], out, "mlx-text", findings)
    with pytest.raises(InvalidData, match="nothing was written"):
        write_texts([], out, "mlx-text", findings, overwrite=True)
    assert out.read_text().count("\n") == 2
    write_texts([passage("c")], out, "mlx-text", findings, metadata=False, overwrite=True)
    assert json.loads(out.read_text()) == {"text": "c"}
