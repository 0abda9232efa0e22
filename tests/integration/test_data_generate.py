"""`corral data generate` against a teacher that is a real HTTP server."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from corral.cli import data_sources
from corral.datasets.sources import tasks
from corral.datasets.sources.budget import Budget
from corral.datasets.sources.journal import journal_path
from corral.datasets.sources.teacher import Teacher, endpoint
from corral.errors import AuthenticationError, Conflict, NotFound, UpstreamError
from tests.fakes.teacher_server import GARBAGE, Fields, TeacherServer, error

app = typer.Typer()
data_sources.register(app)
Run = Callable[..., Result]
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(server: TeacherServer, *arguments: str, prompts: str = "one\ntwo\nthree\n") -> Result:
        path = tmp_path / "prompts.txt"
        if not path.exists():
            path.write_text(prompts)
        where = ["--base-url", server.url, "--model", "openai/teacher", "--json"]
        return CliRunner().invoke(
            app, ["generate", str(path), "--out", str(tmp_path / "out.jsonl"), *where, *arguments]
        )

    return run


def summary(result: Result) -> Any:
    assert result.exception is None, (result.exception, result.output)
    return json.loads(result.stdout)


def pairs(tmp_path: Path) -> list[tuple[str, str]]:
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    turns = [json.loads(line)["messages"] for line in lines]
    return [(messages[-2]["content"], messages[-1]["content"]) for messages in turns]


def steps(tmp_path: Path) -> list[Any]:
    lines = journal_path(tmp_path / "out.jsonl").read_text().splitlines()
    return [step for line in lines if "step" in (step := json.loads(line))]


def echo(fields: Fields) -> str:
    """Answers a request, and grows one into another that shares no run of words with it."""
    if "change" in fields:
        mark = abs(hash((fields["request"], fields["change"]))) % 10**6
        return " ".join(f"grown{mark + place}" for place in range(6))
    return f"The answer to {fields.get('request') or fields['plain']}."


def test_distillation_with_provenance_for_each_row(run: Run, tmp_path: Path) -> None:
    with TeacherServer(echo) as server:
        result = summary(run(server, "--temperature", "0.7", "--seed", "5"))
        assert pairs(tmp_path) == [(p, f"The answer to {p}.") for p in ("one", "two", "three")]
        sent = server.requests[0]
        assert (sent["model"], sent["temperature"], sent["max_tokens"]) == ("teacher", 0.7, 2048)
        host = server.url.removeprefix("http://").removesuffix("/v1")
    assert (result["rows"], result["requests"], result["tokens"]) == (3, 3, 120)
    for line, step in enumerate(steps(tmp_path), 1):
        assert (step["line"], step["prompt_id"], step["parent"]) == (line, f"p{line}", None)
        assert (step["model"], step["host"], step["tokens"]) == ("teacher-7b", host, 40)
        assert step["time"].endswith("+00:00")
    seeds = [step["seed"] for step in steps(tmp_path)]
    assert len(set(seeds)) == 3
    assert seeds == [request["seed"] for request in server.requests]


def test_nothing_but_the_endpoint_is_spoken_to(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever OpenAI variables are set, and whatever the model is called."""
    asked: list[Any] = []
    look_up = socket.getaddrinfo

    def watched(host: Any, *rest: Any, **more: Any) -> Any:
        asked.append(host)
        return look_up(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", watched)
    monkeypatch.delenv("LITELLM_LOCAL_MODEL_COST_MAP", raising=False)
    monkeypatch.setenv("OPENAI_BASE_URL", "https://elsewhere.example/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-private")
    with TeacherServer(echo) as server:
        assert summary(run(server, "--model", "gpt-4o"))["rows"] == 3
        assert "sk-private" not in json.dumps(server.requests)
    assert set(asked) <= {"127.0.0.1"}


def test_evolution_grows_prompts_and_answers_them(run: Run, tmp_path: Path) -> None:
    with TeacherServer(echo) as server:
        result = summary(run(server, "--evolve", "2"))
        assert (result["rows"], result["requests"]) == (9, 3 + 6 + 6)
    by_id = {
        step["prompt_id"]: step for step in steps(tmp_path) if step["step"].startswith("answer")
    }
    assert by_id["p1.1.2"]["parent"] == "p1.1"
    assert (by_id["p1.1.2"]["round"], by_id["p1.1"]["round"], by_id["p1"]["round"]) == (2, 1, 0)
    grown = [step for step in steps(tmp_path) if step["step"].startswith("grow")]
    allowed = {"constraint", "depth", "concrete", "reasoning", "broaden"}
    assert {step["change"] for step in grown} <= allowed
    written = {question for question, _ in pairs(tmp_path)}
    assert {step["prompt"] for step in grown} < written


def test_broader_prompts_only(run: Run, tmp_path: Path) -> None:
    with TeacherServer(echo) as server:
        summary(run(server, "--evolve", "1", "--broaden", "1"))
    assert {step["change"] for step in steps(tmp_path) if "change" in step} == {"broaden"}


def test_prompts_that_grow_into_ones_that_are_there_are_not_kept(run: Run, tmp_path: Path) -> None:
    def same(fields: Fields) -> str:
        return "two" if "change" in fields else echo(fields)

    with TeacherServer(same) as server:
        result = summary(run(server, "--evolve", "3"))
    assert (result["rows"], result["rejected"]) == (3, {"duplicate_prompt": 3})


def test_answers_that_repeat_are_dropped(run: Run, tmp_path: Path) -> None:
    stuck = "I am a language model and will always say this."
    with TeacherServer(lambda fields: stuck) as server:
        result = summary(run(server, "--samples", "2"))
    assert (result["rows"], result["rejected"]) == (1, {"duplicate_row": 1, "repeated_answer": 4})


def test_answers_are_held_to_the_schema_and_mistakes_are_told(run: Run, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(SCHEMA))

    def learning(fields: Fields) -> str:
        if fields["request"] == "three":
            return "no JSON at all"
        return '```json\n{"n": 1}\n```' if "mistake" in fields else '{"n": "one"}'

    with TeacherServer(learning) as server:
        result = summary(run(server, "--schema", str(schema)))
        assert "at $.n: 'one' is not of type 'integer'" in server.asked[1]["mistake"]
        assert json.loads(server.asked[0]["json_schema"]) == SCHEMA
    assert pairs(tmp_path) == [("one", '{"n": 1}'), ("two", '{"n": 1}')]
    assert (result["rejected"], result["requests"]) == ({"schema": 1}, 6)
    assert [step["attempts"] for step in steps(tmp_path)] == [2, 2, 2]


def test_faults_are_waited_out_or_told(run: Run, tmp_path: Path) -> None:
    with TeacherServer(lambda f: None if f["request"] == "two" else echo(f)) as server:
        server.faults = [error(500, retry_after="0"), error(429, retry_after="0"), GARBAGE]
        result = summary(run(server))
        assert len(server.requests) == 3 + 1 + 2 + 1
    assert (result["rows"], result["rejected"], result["requests"]) == (2, {"garbled": 1}, 7)


def test_answers_that_are_cut_off_are_not_kept(run: Run, tmp_path: Path) -> None:
    with TeacherServer(echo) as server:
        server.finish_reason, server.usage = "length", None
        result = summary(run(server, "--max-answer-tokens", "5", "--attempts", "1"))
    assert (result["rows"], result["tokens"], result["rejected"]) == (0, 0, {"garbled": 3})


def test_a_teacher_that_refuses(run: Run, tmp_path: Path) -> None:
    with TeacherServer(echo, key="k") as server:
        assert isinstance(run(server).exception, AuthenticationError)
        server.key = "none"
        server.faults = [error(404)]
        result = run(server, "--resume")
        assert isinstance(result.exception, NotFound)
        assert "check --base-url" in result.exception.message


@pytest.mark.parametrize(("option", "rows"), [("--max-requests", "4"), ("--max-tokens", "150")])
@pytest.mark.parametrize("parallel", ["1", "3"])
def test_a_budget_ends_a_run_and_resume_goes_on(
    option: str, rows: str, parallel: str, run: Run, tmp_path: Path
) -> None:
    prompts = "".join(f"prompt {n}\n" for n in range(10))
    with TeacherServer(echo) as server:
        result = run(server, option, rows, "--parallel", parallel, prompts=prompts)
        first = summary(result)
        assert first["stopped"] == option
        assert 4 <= first["rows"] <= (4 if parallel == "1" else 6)
        assert first["left"] == 10 - first["rows"]
        assert f"stopped by {option}" in result.stderr
        assert "--resume goes on" in result.stderr
        again = summary(run(server, "--resume", "--parallel", parallel))
        assert (again["rows"], again["stopped"], again["requests"]) == (10, None, first["left"])
        assert len(server.requests) == 10
        done = summary(run(server, "--resume"))
        assert (done["rows"], done["requests"]) == (10, 0)
    assert sorted(pairs(tmp_path)) == sorted(
        (f"prompt {n}", f"The answer to prompt {n}.") for n in range(10)
    )


def test_a_resumed_evolution_gives_the_rows_of_one_that_was_not_cut(
    run: Run, tmp_path: Path
) -> None:
    with TeacherServer(echo) as server:
        summary(run(server, "--evolve", "2"))
        whole = (tmp_path / "out.jsonl").read_bytes()
        summary(run(server, "--evolve", "2", "--overwrite", "--max-requests", "1"))
        for _ in range(14):
            assert (tmp_path / "out.jsonl").read_bytes() != whole
            summary(run(server, "--evolve", "2", "--resume", "--max-requests", "1"))
        assert (tmp_path / "out.jsonl").read_bytes() == whole


def test_other_settings_are_not_mixed_in(run: Run, tmp_path: Path) -> None:
    with TeacherServer(echo) as server:
        summary(run(server, "--max-requests", "1"))
        result = run(server, "--resume", "--seed", "9")
    assert isinstance(result.exception, Conflict)
    assert "seed was 1, is 9" in result.exception.message


def test_chats_keep_their_rules_and_turns(run: Run, tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    turns = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "A"},
        {"role": "assistant", "content": "old"},
    ]
    chats.write_text(json.dumps({"messages": turns}) + "\n")
    with TeacherServer(echo) as server:
        command = ["generate", str(chats), "--base-url", server.url, "--model", "m"]
        result = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out.jsonl")])
        assert result.exit_code == 0
        assert server.asked[0] == {"rules": "Be short.", "request": "A"}
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert row["messages"] == [*turns[:2], {"role": "assistant", "content": "The answer to A."}]


def test_plain_sends_the_turns_as_they_are(tmp_path: Path) -> None:
    chats, schema = tmp_path / "chats.jsonl", tmp_path / "schema.json"
    schema.write_text(json.dumps(SCHEMA))
    turns = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "A"},
        {"role": "assistant", "content": "B"},
        {"role": "user", "content": "C"},
    ]
    chats.write_text(json.dumps({"messages": turns}) + "\n")
    out = tmp_path / "out.jsonl"
    with TeacherServer(lambda fields: '{"n": 3}') as server:
        command = ["generate", str(chats), "--base-url", server.url, "--model", "m", "--plain"]
        options = ["--schema", str(schema), "--temperature", "0", "--out", str(out), "--json"]
        assert summary(CliRunner().invoke(app, [*command, *options]))["tokens"] == 40
    (sent,) = server.requests
    assert sent["messages"] == turns
    assert (sent["temperature"], sent["max_tokens"], sent["model"]) == (0, 2048, "m")
    assert sent["response_format"]["json_schema"]["schema"] == SCHEMA
    assert sent["seed"] == steps(tmp_path)[0]["seed"]
    assert json.loads(out.read_text())["messages"][-1]["content"] == '{"n": 3}'


def test_an_endpoint_that_is_not_there_ends_with_what_to_do() -> None:
    server = TeacherServer(echo)
    with server:
        pass
    slept: list[float] = []
    told: list[str] = []
    teacher = Teacher(endpoint(server.url, "m"), Budget(), sleep=slept.append, report=told.append)
    with pytest.raises(UpstreamError, match=r"Connection refused.*run again with --resume"):
        teacher.ask(tasks.EVOLVE, {"request": "a", "change": "b"}, 1)
    assert len(slept) == len(told) == teacher.budget.requests - 1 == 6
