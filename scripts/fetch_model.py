"""Fetch one model: from a model hub, from a URL with its sha256, or from a local file.

    python scripts/fetch_model.py --hf-repo OWNER/NAME[:QUANT] [--hf-file PATH] --out FOLDER
    python scripts/fetch_model.py --url URL --sha256 HEX --out FOLDER
    python scripts/fetch_model.py FILE --out FOLDER

Leaves the GGUF files (all shards of a split model, the projector of a vision model) and NAME.manifest.json
in FOLDER. Every byte is checked against the checksum that the hub, or the caller, gives. HF_TOKEN comes
from the environment or its file; HF_ENDPOINT and HF_HUB_CACHE are honoured.
"""

import argparse
from pathlib import Path

import fetch_cache
import fetch_hub
import fetch_local
import fetch_url
import stage
from corral import settings as settings_module
from corral.errors import BadRequest
from corral.registry.catalog import NAME
from corral.registry.hub_files import check_repo
from corral.registry.patience import ATTEMPTS, Patience
from fetch_place import Fetched, cannot_write, place, write_manifest


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line, or what is given instead of it."""
    parser = stage.parser(__doc__)
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="a GGUF file here")
    parser.add_argument("--hf-repo", default="", help="OWNER/NAME of a hub, with :QUANT if wanted")
    parser.add_argument("--hf-file", default="", help="path of the file in the repository")
    parser.add_argument("--no-mmproj", action="store_true", help="leave a vision projector out")
    parser.add_argument("--offline", action="store_true", help="take it from the cache or fail")
    parser.add_argument("--url", default="", help="address of one GGUF file")
    parser.add_argument("--sha256", default="", help="checksum of the file, in hexadecimal")
    parser.add_argument("--name", default="", help="the model's name; default: the file's")
    parser.add_argument("--base", default="", help="of an adapter: its base; default: the file's")
    parser.add_argument("--out", type=Path, required=True, help="folder for files and manifest")
    parser.add_argument(
        "--attempts", type=int, default=ATTEMPTS, help="give up after so many in a row in vain"
    )
    return parser.parse_args(words)


def main(args: argparse.Namespace, reporter: stage.Reporter) -> None:
    """Fetch, put into the folder, describe."""
    check(args)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        cannot_write(args.out, error, "--out")
    fetched = fetch(args, reporter)
    placed = [place(part, args.out, reporter) for part in fetched.parts]
    manifest = write_manifest(fetched, placed, args.name, args.base)
    reporter.result(
        {
            "name": manifest.name,
            "kind": manifest.kind,
            "files": [file.model_dump(mode="json") for file in manifest.files],
            "bytes": sum(file.bytes for file in manifest.files),
            "fetched_bytes": fetched.fetched_bytes,
            "licence": manifest.licence,
            "source": manifest.source,
        }
    )


def check(args: argparse.Namespace) -> None:
    """Raise BadRequest for a command line that means nothing."""
    given = [bool(args.hf_repo), bool(args.url), bool(args.file)]
    if sum(given) != 1:
        raise BadRequest("name one thing to fetch: --hf-repo OWNER/NAME, --url URL, or FILE")
    if args.hf_file and not args.hf_repo:
        raise BadRequest("--hf-file needs --hf-repo, the repository that has the file")
    if args.name and not NAME.match(args.name):
        raise BadRequest(
            f"`{args.name}` is no model name: letters, digits, `.`, `_`, `-`, up to 200, the first a "
            "letter or digit",
            param="name",
        )


def fetch(args: argparse.Namespace, reporter: stage.Reporter) -> Fetched:
    """The files, wherever they come from, checked."""
    settings = settings_module.load()
    patience = Patience(args.attempts, reporter.message)
    if args.file:
        return fetch_local.fetch(args.file, args.sha256, args.base)
    if args.url:
        downloads = settings.data_dir / "downloads"
        return fetch_url.fetch(args.url, args.sha256, downloads, patience, reporter)
    repo, _, quant = args.hf_repo.partition(":")
    check_repo(repo, quant)
    wish = fetch_cache.Wish(repo, args.hf_file, quant, mmproj=not args.no_mmproj)
    access = settings_module.hub_access()
    if args.offline or access.offline:
        return fetch_cache.from_cache(access.cache, wish)
    download = fetch_hub.Download(access, settings.llama_bin_dir / "llama", patience, reporter)
    return download.fetch(wish, args.out)


if __name__ == "__main__":
    stage.run(main, arguments())
