"""One Corral with a real llama-server and the bundled models for the whole tier.

Nothing here is skipped: a missing binary or model fails with the command that mends it.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from openai import AsyncOpenAI, OpenAI

from tests.e2e.corral_process import CorralProcess

BUNDLED = ("corral-tiny", "corral-tiny-folio", "corral-tiny-edge-ai", "corral-tiny-embed")


@pytest.fixture(scope="session")
def corral(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CorralProcess]:
    """A running Corral that every test may ask and none may break."""
    with CorralProcess(tmp_path_factory.mktemp("corral")) as process:
        _, listed = process.get("/v1/models")
        missing = set(BUNDLED) - {model["id"] for model in listed["data"]}
        if missing:
            pytest.fail(
                f"bundled models missing: {missing}; `git checkout -- models/` restores them"
            )
        yield process
        assert process.llama_servers(), "llama-server ended by itself during the tests"
        process.stop()
        assert process.child.returncode == 0
        assert process.llama_servers() == []


@pytest.fixture(scope="session")
def client(corral: CorralProcess) -> Iterator[OpenAI]:
    """The SDK as a program uses it, but strict: an answer that breaks the SDK's types raises."""
    with OpenAI(
        base_url=corral.url, api_key="any", max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


@pytest.fixture(scope="session")
def plain_client(corral: CorralProcess) -> Iterator[OpenAI]:
    """The SDK as it is, for answers that break its own types when OpenAI gives them: base64
    embeddings, and `finish_reason: null` in streamed completions."""
    with OpenAI(base_url=corral.url, api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
async def async_client(corral: CorralProcess) -> AsyncIterator[AsyncOpenAI]:
    """The asynchronous SDK, strict as well. One per test: it belongs to the test's event loop."""
    async with AsyncOpenAI(
        base_url=corral.url, api_key="any", max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


@pytest.fixture
def own_corral(tmp_path: Path) -> Iterator[CorralProcess]:
    """A Corral for a test that kills it or its children."""
    with CorralProcess(tmp_path) as process:
        yield process
