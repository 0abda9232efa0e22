"""Requests that have ended are counted and logged later, all of them, and as what they were."""

import asyncio
import logging

import pytest
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from corral.gateway.accounting import SETTLE_SECONDS, TOGETHER, Accounting, Ended
from corral.gateway.context import ContextMiddleware, RequestContext
from corral.metrics import Metrics, Now
from tests.fakes.asgi import call


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    scope["route"] = Route("/slow", answer)
    RequestContext.of(scope).model = "tiny"
    await asyncio.sleep(0.05)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"12345"})


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "corral.access")
    return caplog


async def test_it_settles_by_itself_within_a_moment(log: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    app = ContextMiddleware(answer, Accounting(metrics))
    await asyncio.gather(*(call(app, "POST", "/slow") for _ in range(3)))
    assert log.records == []
    await asyncio.sleep(SETTLE_SECONDS * 1.5)
    assert len(log.records) == 3
    counted = 'corral_requests_total{model="tiny",route="/slow",status="200"} 3.0'
    assert counted in metrics.render(Now()).decode()
    # The next one begins the wait anew.
    await call(app, "POST", "/slow")
    await asyncio.sleep(SETTLE_SECONDS * 1.5)
    assert len(log.records) == 4


async def test_a_line_tells_when_and_how_long_not_when_it_was_written(
    log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced: list[Ended] = []
    accounting = Accounting(Metrics(), traced.append)
    monkeypatch.setattr("corral.gateway.accounting.time.time", lambda: 1_700_000_000.25)
    await call(ContextMiddleware(answer, accounting), "POST", "/slow")
    monkeypatch.undo()
    await asyncio.sleep(0.1)
    accounting.settle()
    (line,), (request,) = log.records, traced
    assert (line.created, line.msecs) == (1_700_000_000.25, 250)
    fields = line.__dict__
    assert 50 <= fields["ms"] < 95
    assert 50 <= fields["ttft_ms"] <= fields["ms"]
    assert (fields["bytes"], fields["model"], fields["route"]) == (5, "tiny", "/slow")
    assert request.at == line.created


async def test_many_do_not_wait(log: pytest.LogCaptureFixture) -> None:
    app = ContextMiddleware(answer, Accounting(Metrics()))
    await asyncio.gather(*(call(app, "POST", "/slow") for _ in range(TOGETHER + 1)))
    assert len(log.records) == TOGETHER


async def test_what_runs_is_counted_at_once() -> None:
    metrics = Metrics()
    app = ContextMiddleware(answer, Accounting(metrics))
    asked = asyncio.create_task(call(app, "POST", "/slow"))
    await asyncio.sleep(0.01)
    assert b"corral_in_flight 1.0" in metrics.render(Now())
    await asked
    assert b"corral_in_flight 0.0" in metrics.render(Now())


async def test_a_trace_that_fails_costs_no_request_and_no_line(
    log: pytest.LogCaptureFixture,
) -> None:
    traced: list[Ended] = []

    def fail_once(request: Ended) -> None:
        traced.append(request)
        if len(traced) == 1:
            raise RuntimeError("the receiver's package is broken")

    metrics = Metrics()
    app = ContextMiddleware(answer, Accounting(metrics, fail_once))
    # The last of them settles all, in its own course.
    answers = await asyncio.gather(*(call(app, "POST", "/slow") for _ in range(TOGETHER)))
    assert len(answers) == len(traced) == TOGETHER
    lines = [record for record in log.records if record.name == "corral.access"]
    assert len(lines) == TOGETHER
    assert f'route="/slow",status="200"}} {TOGETHER}.0' in metrics.render(Now()).decode()
    (problem,) = [record for record in log.records if record.levelno == logging.ERROR]
    assert "receiver's package" in str(problem.exc_info)
    assert problem.__dict__["request_id"] == traced[0].context.id
