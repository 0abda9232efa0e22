"""What a pull job may be asked for, and the stage that it becomes."""

from pathlib import Path

import pytest

from corral.errors import BadRequest
from corral.settings import Settings
from corral.shelf import KINDS
from corral.shelf.pull import KIND, Spec, plan

SHA256 = "0" * 64


def test_the_kind_is_on_the_shelf() -> None:
    assert KINDS.find("pull") is KIND


def test_every_field_reaches_the_stage() -> None:
    specs = [
        Spec(
            hf_repo="org/m:Q4_0",
            hf_file="-a/m.gguf",
            name="n",
            base="b",
            mmproj=False,
            offline=True,
        ),
        Spec(url="http://h/m.gguf", sha256=SHA256),
        Spec(file="/f/m.gguf"),
    ]
    stages = [plan(spec, Settings(), Path("/job")) for spec in specs]
    assert [stage.argv[2:] for (stage,) in stages] == [
        ("--hf-repo=org/m:Q4_0", "--hf-file=-a/m.gguf", "--name=n", "--base=b", "--out=/job/out", "--no-mmproj", "--offline"),
        ("--url=http://h/m.gguf", f"--sha256={SHA256}", "--out=/job/out"),
        ("--out=/job/out", "/f/m.gguf"),
    ]  # fmt: skip
    assert Path(stages[0][0].argv[1]).name == "fetch_model.py"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "`spec`: name one thing to fetch: hf_repo (OWNER/NAME), url, or file"),
        ({"hf_repo": "a/b", "file": "/x"}, "`spec`: name one thing to fetch: hf_repo (OWNER/NAME), url, or file"),
        ({"file": "/x", "hf_file": "y"}, "`spec`: hf_file needs hf_repo, the repository that has the file"),
        ({"url": "http://h/x"}, "`spec`: url needs sha256, the file's checksum in hexadecimal"),
        ({"url": "ftp://h/x", "sha256": SHA256}, "`spec.url`: no http(s) address"),
        (
            {"url": "http://u:p@h/x", "sha256": SHA256},
            "`spec.url`: holds a user name or password; leave it out: a job is stored and shown",
        ),
        ({"file": "m.gguf"}, "`spec.file`: `m.gguf`: a job needs the whole path of the file"),
        (
            {"hf_repo": "../x"},
            "`spec.hf_repo`: `../x` is no repository name: write OWNER/NAME or OWNER/NAME:QUANT (letters, "
            "digits, `_`, and `.` or `-` between them)",
        ),
    ],
)  # fmt: skip
def test_specs_that_mean_nothing(spec: dict[str, str], message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        KIND.parse(spec)
    assert caught.value.message == message


@pytest.mark.parametrize("field", ["name", "sha256"])
def test_fields_that_are_malformed(field: str) -> None:
    with pytest.raises(BadRequest, match=f"`spec.{field}`"):
        KIND.parse({"file": "/x", field: "../x"})


def test_a_token_is_no_field() -> None:
    with pytest.raises(BadRequest, match="hf_token"):
        KIND.parse({"hf_repo": "a/b", "hf_token": "hf_x"})
