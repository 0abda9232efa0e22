"""Documents as Markdown text: .txt .md .json .html .pdf .docx, all converted on this machine.

pypdf, mammoth and markdownify do it: pure Python, seven small packages. markitdown wraps much the
same converters, but brings twenty packages with ONNX Runtime and a neural guesser of file types;
here the suffix says what a file is. What is not covered: scanned pages (no text in them), pictures,
tables in PDFs (their cells come out as lines), password-protected files.
"""

import io
import json
import logging
import re
import zipfile
from collections.abc import Callable
from typing import Any

from corral.datasets.sources.optional import load

MAX_FILE_BYTES = 50 * 1024 * 1024
# What a small file may swell to: 50 MB is twenty times the text of a long book.
MAX_UNPACKED_BYTES = 200 * 1024 * 1024
MAX_TEXT_CHARS = 20_000_000
MAX_PDF_PAGES = 5000


class Unreadable(Exception):
    """The document gives no text; the message says why."""


def suffixes() -> tuple[str, ...]:
    """The kinds of file that can be read."""
    return tuple(_CONVERTERS)


def to_text(data: bytes, suffix: str) -> str:
    """A document's text, headings marked as Markdown has them. Raises Unreadable, nothing else."""
    if not data.strip():
        raise Unreadable("the file is empty")
    try:
        text = _CONVERTERS[suffix](data)
    except Unreadable:
        raise
    except RecursionError:
        raise Unreadable("nested too deeply") from None
    # Converters of PDF and Word meet broken files in more ways than their authors list.
    except Exception as error:  # noqa: BLE001
        raise Unreadable(f"cannot be read as {suffix} ({type(error).__name__}: {error})") from None
    text = _tidy(text)
    if not text:
        raise Unreadable("no text in it (a scan, or pictures only?)")
    if len(text) > MAX_TEXT_CHARS:
        raise Unreadable(f"{len(text):,} characters; at most {MAX_TEXT_CHARS:,} are taken")
    return text


def _tidy(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    text = re.sub(r"[ \t\u00a0]+\n", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(
            f"byte 0x{data[error.start]:02X} at byte {error.start + 1} is not UTF-8; save it as UTF-8"
        ) from None


def _json_text(data: bytes) -> str:
    try:
        value = json.loads(_decode(data))
    except ValueError as error:
        raise Unreadable(f"not JSON: {error}") from None
    return json.dumps(value, ensure_ascii=False, indent=1)


def _html(data: bytes) -> str:
    soup = load("bs4").BeautifulSoup(data, "html.parser")
    for element in soup(["script", "style", "noscript", "template", "head", "nav"]):
        element.decompose()
    return _markdown(str(soup))


def _markdown(html: str) -> str:
    text = load("markdownify").markdownify(
        html, heading_style="ATX", strip=["a", "img"], escape_misc=False,
        escape_underscores=False, escape_asterisks=False,
    )  # fmt: skip
    return str(text)


def _docx(data: bytes) -> str:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > MAX_UNPACKED_BYTES:
        raise Unreadable(f"unpacks to {size:,} bytes; at most {MAX_UNPACKED_BYTES:,} are taken")
    return _markdown(load("mammoth").convert_to_html(io.BytesIO(data)).value)


def _pdf(data: bytes) -> str:
    # It logs each oddity of a file that it then reads all the same.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    reader = load("pypdf").PdfReader(io.BytesIO(data))
    if reader.is_encrypted and not reader.decrypt(""):
        raise Unreadable("protected by a password; save a copy without one")
    if len(reader.pages) > MAX_PDF_PAGES:
        raise Unreadable(f"{len(reader.pages):,} pages; at most {MAX_PDF_PAGES:,} are taken")
    return "\n\n".join(_unwrapped(page.extract_text()) for page in reader.pages)


def _unwrapped(page: Any) -> str:
    """A page with words that were broken at line ends put together."""
    return re.sub(r"(?<=[a-zäöüßéèà])-\n(?=[a-zäöüßéèà])", "", str(page))


_CONVERTERS: dict[str, Callable[[bytes], str]] = {
    ".txt": _decode,
    ".md": _decode,
    ".markdown": _decode,
    ".json": _json_text,
    ".html": _html,
    ".htm": _html,
    ".pdf": _pdf,
    ".docx": _docx,
}
