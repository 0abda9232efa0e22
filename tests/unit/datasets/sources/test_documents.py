"""Documents of every kind as text, and what is no document."""

import io
import zipfile
from pathlib import Path

import pytest

from corral.datasets.sources.documents import MAX_UNPACKED_BYTES, Unreadable, suffixes, to_text
from tests.fakes.documents import docx, pdf

HTML = b"""<html><head><title>no</title><style>p{}</style></head><body><nav>menu</nav>
<h1>Title</h1><p>One &amp; <b>two</b> <a href="http://x.example">link</a>.</p>
<script>alert(1)</script><ul><li>a</li><li>b_c</li></ul></body></html>"""


@pytest.mark.parametrize(
    ("data", "suffix", "text"),
    [
        ("A\r\nü\u00a0\n\n\n\nB\0".encode(), ".txt", "A\nü\n\nB"),
        (b"\xef\xbb\xbf# A", ".md", "# A"),
        ("A ü".encode("utf-16"), ".txt", "A ü"),
        ('{"b": 1, "a": ["ü"]}'.encode(), ".json", '{\n "b": 1,\n "a": [\n  "ü"\n ]\n}'),
        (HTML, ".html", "# Title\n\nOne & **two** link.\n\n* a\n* b_c"),
        (docx("Heading", "First paragraph."), ".docx", "# Heading\n\nFirst paragraph."),
        (pdf("Hello PDF"), ".pdf", "Hello PDF"),
    ],
    ids=["txt", "bom", "utf16", "json", "html", "docx", "pdf"],
)
def test_text(data: bytes, suffix: str, text: str) -> None:
    assert to_text(data, suffix) == text


def bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", bytes(MAX_UNPACKED_BYTES + 1))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "suffix", "why"),
    [
        (b" \n", ".txt", "the file is empty"),
        (b"abc\xe9", ".txt", "byte 0xE9 at byte 4 is not UTF-8"),
        (b"{", ".json", "not JSON: "),
        (b"[" * 100_000, ".json", "nested too deeply"),
        (b"<p></p>", ".html", "no text in it"),
        (b"not a zip", ".docx", r"cannot be read as \.docx \(BadZipFile"),
        (b"%PDF-1.7 broken", ".pdf", r"cannot be read as \.pdf"),
        (pdf(""), ".pdf", "no text in it"),
        (pdf("secret", password="x"), ".pdf", "protected by a password"),
    ],
    ids=["empty", "latin", "json", "deep", "html", "docx", "pdf", "scan", "password"],
)
def test_what_gives_no_text_says_why(data: bytes, suffix: str, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        to_text(data, suffix)


def test_a_zip_bomb_is_not_unpacked() -> None:
    with pytest.raises(Unreadable, match="unpacks to"):
        to_text(bomb(), ".docx")


def test_every_suffix_is_documented() -> None:
    page = Path(__file__).parents[4] / "docs" / "data-sources.md"
    assert [suffix for suffix in suffixes() if f"`{suffix}`" not in page.read_text()] == []
