"""A million rows, 1 GB: converted and checked in flat memory, with the same result as datasets."""

from pathlib import Path
from typing import Any

import pytest

import bench_data

pytestmark = pytest.mark.long
MEMORY_MIB = 200


def test_a_million_rows_in_flat_memory(consumers: Path, tmp_path: Path) -> None:
    result: dict[str, Any] = bench_data.compare(1_000_000, str(consumers), tmp_path)
    # The ratio belongs in docs/log.md; a busy machine must not fail a test.
    print(result)
    assert result["bytes"] >= 10**9
    assert result["same_rows"]
    assert result["corral"]["peak_mib"] <= MEMORY_MIB
