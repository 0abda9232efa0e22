"""`corral finetune export-recipe`: folders that the other tools' own schemas accept.

tests/data/recipes holds those schemas, written down from the named releases: axolotl's pydantic models,
LLaMA-Factory's and TRL's argument classes with transformers', and the signatures of Unsloth's loader.
"""

import ast
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from corral import cli
from corral.errors import BadRequest, Conflict, InvalidData

SCHEMAS = Path(__file__).parents[1] / "data" / "recipes"
runner = CliRunner()

CHAT = [
    {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n}!"}]}
    for n in range(200)
]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
WITH_MORE: list[dict[str, Any]] = [
    {
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b", "weight": 0},
            {"role": "user", "content": "c"},
            {"role": "assistant", "content": "d"},
        ],
        "tools": TOOLS,
    },
    CHAT[0],
]
PAIRS = [
    {
        "input": {"messages": [{"role": "user", "content": f"{n}?"}]},
        "preferred_output": [{"role": "assistant", "content": "yes"}],
        "non_preferred_output": [{"role": "assistant", "content": "no"}],
    }
    for n in range(3)
]


def rows(path: Path, values: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def export(folder: Path, to: str, values: list[dict[str, Any]], *more: str) -> Path:
    """The recipe's folder."""
    file = rows(folder / "in.jsonl", values)
    out = folder / "out"
    arguments = ["--to", to, "--model", "corral-tiny", "--base", "org/base", "--file", str(file)]
    done = runner.invoke(
        cli.app, ["finetune", "export-recipe", *arguments, "--out", str(out), *more]
    )
    if done.exception is not None:
        raise done.exception
    assert sorted(done.stdout.split()) == sorted(str(path) for path in out.iterdir())
    return out


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SCHEMAS / f"{name}.json").read_text())
    return found


def configuration(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((out / "config.yaml").read_text())
    return found


CHANGES = (
    "--set",
    "rank=8",
    "--set",
    "batch_size=3",
    "--set",
    "targets=q_proj,v_proj",
    "--epochs",
    "2",
)
VARIANTS = [
    (CHAT, ()),
    (CHAT, CHANGES),
    (CHAT, ("--set", "quantised_base=on", "--set", "gradient_checkpointing=off")),
    (WITH_MORE, ("--valid", "in.jsonl")),
    (PAIRS, ("--method", "dpo", "--set", "beta=0.2", "--valid", "in.jsonl")),
]


@pytest.mark.parametrize(("values", "more"), VARIANTS)
def test_axolotl_knows_every_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: list[Any], more: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    out = export(tmp_path, "axolotl", values, *more)
    config = configuration(out)
    jsonschema.validate(config, schema("axolotl"))
    kind = "dpo" if "dpo" in more else "sft"
    sets = config["datasets"] + config.get("test_datasets", [])
    for dataset in sets:
        known = schema("axolotl_sft_dataset")["properties"] | (
            schema("axolotl_dpo_dataset")["properties"] if kind == "dpo" else {}
        )
        jsonschema.validate(dataset, {"properties": known, "additionalProperties": False})
        assert (out / dataset["path"]).is_file()
    assert config["attn_implementation"] == "flash_attention_2"
    assert json.loads((out / config["deepspeed"]).read_text())["zero_optimization"]["stage"] == 2
    assert len(sets) == (2 if "--valid" in more else 1)


@pytest.mark.parametrize(("values", "more"), VARIANTS)
def test_llama_factory_knows_every_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: list[Any], more: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    out = export(tmp_path, "llama-factory", values, *more)
    config = configuration(out)
    jsonschema.validate(config, schema("llama_factory"))
    assert config["flash_attn"] == "fa2"
    assert (out / config["deepspeed"]).is_file()
    described = json.loads((out / "dataset_info.json").read_text())
    assert set(described) == {config["dataset"], config.get("eval_dataset", config["dataset"])}
    for dataset in described.values():
        there = {key for row in written(out / dataset["file_name"]) for key in row}
        assert set(dataset["columns"].values()) == there
        assert dataset.get("ranking", False) == ("dpo" in more)


@pytest.mark.parametrize(("values", "more"), VARIANTS)
def test_unsloth_and_trl_know_every_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: list[Any], more: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    out = export(tmp_path, "unsloth", values, *more)
    tree = ast.parse((out / "train.py").read_text())
    calls = {
        ast.unparse(node.func).rpartition(".")[2]: {
            keyword.arg: keyword.value for keyword in node.keywords
        }
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    }
    for name in ("from_pretrained", "get_peft_model"):
        assert set(calls[name]) <= set(schema("unsloth")[name])
    kind = "dpo" if "dpo" in more else "sft"
    given = calls[f"{kind.upper()}Config"]
    values_given = {name: ast.literal_eval(value) for name, value in given.items() if name}
    jsonschema.validate(values_given, schema(f"trl_{kind}"))
    assert ("--valid" in more) == (out / "valid.jsonl").is_file()
    if kind == "sft":
        prompts = "prompt" in written(out / "train.jsonl")[0]
        name = "completion_only_loss" if prompts else "assistant_only_loss"
        assert values_given[name] is True


def test_what_was_asked_for_is_what_they_train(tmp_path: Path) -> None:
    out = export(tmp_path, "axolotl", CHAT, *CHANGES, "--seed", "7", "--set", "rate=0.001")
    config = configuration(out)
    wanted = {
        "base_model": "org/base",
        "num_epochs": 2,
        "lora_r": 8,
        "lora_alpha": 16,
        "lora_target_modules": ["q_proj", "v_proj"],
        "micro_batch_size": 1,
        "gradient_accumulation_steps": 3,
        "learning_rate": 0.001,
        "seed": 7,
    }
    assert {key: config[key] for key in wanted} == wanted
    assert "lora_target_linear" not in config
    readme = (out / "README.md").read_text()
    assert "axolotl train config.yaml" in readme
    assert "corral models add adapter.gguf --base corral-tiny" in readme


def test_the_epochs_follow_the_rows_as_they_do_here(tmp_path: Path) -> None:
    config = configuration(export(tmp_path, "axolotl", PAIRS, "--method", "dpo"))
    assert config["num_epochs"] == 25
    assert config["learning_rate"] == 2e-5


@pytest.mark.parametrize(
    ("more", "error", "said"),
    [
        (("--set", "rnak=8"), BadRequest, "did you mean `rank`?"),
        (("--set", "rank=0"), BadRequest, "rank"),
        (("--set", "rank"), BadRequest, "must be KEY=VALUE"),
        (("--base", "x'; import os"), BadRequest, "no repository of the hub"),
        (("--base", "a\nb: c"), BadRequest, "no repository of the hub"),
        (("--out", "."), Conflict, "is there already"),
    ],
)
def test_what_cannot_be_is_told_and_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: tuple[str, ...],
    error: type[Exception],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as told:
        export(tmp_path, "unsloth", CHAT, *more)
    assert said in str(told.value)
    assert not (tmp_path / "out").exists()


def test_a_row_that_cannot_be_used_ends_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=r"in\.jsonl:2"):
        export(tmp_path, "axolotl", [CHAT[0], {"messages": 5}])
    assert not (tmp_path / "out").exists()
