"""A pytest plugin: where CI is set, a skipped test fails the run.

A missing tool that makes tests skip would otherwise leave CI green and the code untested.
Loaded by the Makefile: `python -m pytest -p tests.no_skips`.
"""

import os

import pytest
from _pytest.terminal import TerminalReporter

FORBIDDEN = pytest.StashKey[int]()


def _skipped(config: pytest.Config) -> int:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("CI") or not isinstance(reporter, TerminalReporter):
        return 0
    return len(reporter.stats.get("skipped", []))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn a green run with skips red."""
    session.config.stash[FORBIDDEN] = _skipped(session.config)
    if session.config.stash[FORBIDDEN] and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """Say why the run failed although no test did."""
    count = config.stash.get(FORBIDDEN, 0)
    if count:
        terminalreporter.write_line(f"{count} skipped: a skip is a failure in CI", red=True)
