"""The bar of the bundled model on all 300 held-out rows, through `corral serve`; and after Q8_0."""

import shutil
import subprocess
from pathlib import Path

import pytest

from corral.settings import Settings
from tests.e2e.corral_process import ENVIRONMENT, CorralProcess
from tests.e2e.test_cataloguing import evaluate

pytestmark = pytest.mark.long

LEAST_VALID = 0.99
LEAST_EXACT = 0.90
# Eight bits cost a point or two.
LEAST_EXACT_Q8_0 = 0.87
DEFAULTS = Settings()
BUNDLED = Path(ENVIRONMENT.get("CORRAL_BUNDLED_MODELS_DIR", DEFAULTS.bundled_models_dir))
BINARIES = Path(ENVIRONMENT.get("CORRAL_LLAMA_BIN_DIR", DEFAULTS.llama_bin_dir))


def test_the_bundled_model_reaches_its_bar(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with CorralProcess(tmp_path) as corral:
        figures = evaluate(corral.url)
    with capsys.disabled():
        print(f"\nF32: {figures}")
    assert figures["rows"] == 300
    assert figures["valid_json"] >= LEAST_VALID
    assert figures["exact"] >= LEAST_EXACT


def test_eight_bits_lose_little(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = tmp_path / "models"
    models.mkdir()
    for name in ("models.toml", "corral-tiny-folio.gguf"):
        shutil.copy(BUNDLED / name, models)
    command = [
        BINARIES / "llama-quantize",
        BUNDLED / "corral-tiny.gguf",
        models / "corral-tiny.gguf",
    ]
    subprocess.run([*command, "Q8_0"], check=True, capture_output=True, timeout=120)
    environment = {"CORRAL_BUNDLED_MODELS_DIR": str(models)}
    with CorralProcess(tmp_path, environment=environment) as corral:
        figures = evaluate(corral.url)
    with capsys.disabled():
        print(f"\nQ8_0: {figures}")
    assert figures["valid_json"] >= LEAST_VALID
    assert figures["exact"] >= LEAST_EXACT_Q8_0
