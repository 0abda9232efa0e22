"""What may be asked for: defaults, local options, and malformed requests, each with its `param`."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from corral.app import create_app
from corral.errors import BadRequest
from corral.finetune.schemas import CreateJob, Options
from corral.finetune.service import FineTuning
from corral.registry.catalog import Collector
from corral.settings import Settings

JOBS = "/v1/fine_tuning/jobs"
GOOD: dict[str, Any] = {"model": "corral-tiny", "training_file": "file-1"}
# What no field of the request may be.
WRONG: dict[str, list[Any]] = {
    "model": [None, 5, "", [], "x" * 400, {"a": 1}],
    "training_file": [None, 5, "", ["file-1"], "x" * 200, True],
    "validation_file": [5, "", {}, False],
    "suffix": ["", 5, "x" * 65, ["a"]],
    "seed": ["1", -1, 2**40, 1.5, True],
    "metadata": [5, "a", {"a": 1}, {"k" * 65: "v"}, {"k": "v" * 513}, {"": "v"}, [1],
                 {str(n): "v" for n in range(17)}],
    "integrations": [5, "wandb", [5], [{"type": "x"}], [{"type": "wandb"}],
                     [{"type": "wandb", "wandb": {}}], [{"type": "wandb", "wandb": {"project": ""}}]],
    "method": [5, "dpo", {"type": "x"}, {"type": "reinforcement"}, {"type": 5}],
    "hyperparameters": [5, "auto", [1]],
    "hyperparameters.n_epochs": ["3", 0, -1, 1.5, True, "Auto", [3], 10**6],
    "hyperparameters.batch_size": ["x", 0, -4, 2.5, {}, 10**7],
    "hyperparameters.learning_rate_multiplier": ["x", 0, -1, True, [], 1e9],
    "hyperparameters.rank": ["x", 0, 2000, 1.5],
    "method.supervised": [5, "x"],
    "method.supervised.hyperparameters": [5, []],
    "method.supervised.hyperparameters.n_epochs": ["x", 0, 2.5],
    "method.dpo.hyperparameters.beta": ["x", 0, -1, 1e6],
    "corral": [5, "x", [1]],
    "corral.engine": [5, "tpu", None],
    "corral.rank": ["x", 0, -1, 4096, 1.5],
    "corral.alpha": ["x", 0, -1],
    "corral.dropout": [1.5, -0.1, "x"],
    "corral.targets": [5, ["--out"], ["a b"], ["x"] * 100, {"a": 1}],
    "corral.rate": ["x", 0, 11],
    "corral.schedule": [5, "step"],
    "corral.warmup": [-1, "x"],
    "corral.precision": ["int8", 5],
    "corral.max_length": [0, "x", -1],
    "corral.too_long": ["cut", 5],
    "corral.evaluate": ["perhaps", 5, [1]],
    "corral.evaluation_file": [5, "", []],
    "corral.evaluation_rows": [0, "x", None],
    "corral.memory": ["swap", 5],
    "corral.device": ["tpu", 5],
    "corral.rnak": [3],
}  # fmt: skip


def with_value(field: str, value: Any) -> dict[str, Any]:
    """The good request with this value at a dotted path."""
    body = json.loads(json.dumps(GOOD))
    *parents, last = field.split(".")
    inner = body
    for name in parents:
        inner = inner.setdefault(name, {})
    inner[last] = value
    if field.startswith("method.dpo"):
        body["method"]["type"] = "dpo"
    return dict(body)


def malformed() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each wrong value alone; then pairs of a wrong value and a good key, to over 200."""
    cases = [(field, with_value(field, value)) for field, all in WRONG.items() for value in all]
    yield from cases
    draw = random.Random(6)
    for number in range(max(0, 220 - len(cases))):
        field, body = draw.choice(cases)
        yield field, body | {f"unknown_{number}": draw.choice([None, 1, "x", {}])}


@pytest.fixture
def app(settings: Settings) -> Any:
    return create_app(settings, Collector().catalog({}))


async def post(app: Any, path: str, **how: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.post(path, **how)


async def get(app: Any, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.get(path)


def check_envelope(answer: httpx.Response, param: str, status: int = 400) -> None:
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["param"] is not None
    assert error["param"] == param or error["param"].startswith(f"{param}."), error
    assert error["message"]


async def test_200_malformed_requests_get_the_envelope_with_the_field(
    app: Any, file_id: str
) -> None:
    count = 0
    for field, body in malformed():
        if body.get("training_file") == "file-1":
            body["training_file"] = file_id
        check_envelope(await post(app, JOBS, json=body), field)
        count += 1
    assert count >= 200
    assert (await get(app, JOBS)).json()["data"] == []


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"seed": NaN}', b"[" * 100_000]
)
async def test_a_body_that_is_no_json_object(app: Any, raw: bytes) -> None:
    check_envelope(await post(app, JOBS, content=raw), "body")


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?limit=0", "limit"),
        ("?limit=101", "limit"),
        ("?limit=x", "limit"),
        ("/ftjob-123/events?limit=0", "limit"),
        ("/ftjob-123/checkpoints?limit=-1", "limit"),
    ],
)
async def test_a_wrong_query(app: Any, query: str, param: str) -> None:
    check_envelope(await get(app, JOBS + query), param)


@pytest.mark.parametrize("job_id", ["ftjob-1", "job_" + "0" * 24, "ftjob-" + "0" * 24, "x"])
async def test_an_unknown_job(app: Any, job_id: str) -> None:
    param = "fine_tuning_job_id"
    check_envelope(await get(app, f"{JOBS}/{job_id}"), param, 404)
    for verb in ("events", "checkpoints"):
        check_envelope(await get(app, f"{JOBS}/{job_id}/{verb}"), param, 404)
    for verb in ("cancel", "pause", "resume"):
        check_envelope(await post(app, f"{JOBS}/{job_id}/{verb}"), param, 404)
    check_envelope(await get(app, f"{JOBS}?after={job_id}"), "after", 404)


async def test_models_and_files_that_are_not_there(app: Any, file_id: str) -> None:
    body = GOOD | {"training_file": file_id}
    check_envelope(await post(app, JOBS, json=body | {"model": "gpt-9"}), "model", 404)
    check_envelope(await post(app, JOBS, json=body | {"model": "corral-tiny-embed"}), "model")
    for field in ("training_file", "validation_file"):
        check_envelope(await post(app, JOBS, json=body | {field: "file-nope"}), field)
    wrong = body | {"corral": {"evaluation_file": "file-nope"}}
    check_envelope(await post(app, JOBS, json=wrong), "corral.evaluation_file")


async def test_openais_own_requests_are_taken(app: Any, file_id: str) -> None:
    """Nulls, "auto", unknown keys: what SDKs and DSPy send."""
    body = GOOD | {
        "training_file": file_id, "validation_file": None, "suffix": None, "seed": None,
        "metadata": None, "integrations": None, "hyperparameters": None, "method": None,
        "user": "x",
    }  # fmt: skip
    job = (await post(app, JOBS, json=body)).json()
    auto = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
    assert job["hyperparameters"] == auto
    assert job["method"] == {"type": "supervised", "supervised": {"hyperparameters": auto}}
    dspy = {"model": "openai/corral-tiny", "training_file": file_id, "hyperparameters": {}}
    assert (await post(app, JOBS, json=dspy)).json()["model"] == "corral-tiny"


def test_the_methods_hyperparameters_come_before_the_older_ones() -> None:
    request = CreateJob.parse(
        GOOD
        | {
            "hyperparameters": {"n_epochs": 2, "batch_size": 8},
            "method": {"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 4, "beta": 0.2}}},
        }
    )
    given = request.hyper().given()
    assert given == {"n_epochs": 4, "batch_size": 8, "beta": 0.2}


def test_local_options_come_as_hyperparameters_or_in_corral() -> None:
    request = CreateJob.parse(
        GOOD
        | {
            "hyperparameters": {"lora_rank": 8, "learning_rate": "auto", "packing": True},
            "corral": {"targets": "q_proj, v_proj", "engine": "mlx", "rank": 4},
        }
    )
    with pytest.raises(BadRequest):
        request.options()  # rank twice
    request = request.model_copy(update={"corral": {"targets": "q_proj, v_proj"}})
    options, ignored = request.options()
    assert (options.rank, options.rate, options.targets) == (8, None, ("q_proj", "v_proj"))
    assert ignored == ("packing",)


def test_an_unknown_option_is_told_the_nearest() -> None:
    with pytest.raises(BadRequest, match="did you mean `rank`") as caught:
        CreateJob.parse(GOOD | {"corral": {"rnak": 4}}).options()
    assert caught.value.param == "corral.rnak"


def test_every_option_is_one_of_the_trainers(jobs: FineTuning) -> None:
    """An option that no stage takes would be silently without effect."""
    from corral.finetune import stages

    text = Path(stages.__file__).read_text()
    assert [name for name in Options.model_fields if name not in text] == []
