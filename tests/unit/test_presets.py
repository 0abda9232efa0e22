"""llama-server's command line and presets, to the letter."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from corral.registry.catalog import Catalog, Model
from corral.runtime.command import Endpoint, router_argv, router_environment
from corral.runtime.presets import Layout, ini, lay_out, succeed
from corral.settings import Settings


def model(name: str, kind: Any = "base", **more: Any) -> Model:
    path = Path(f"/m/{name}.gguf")
    return Model(name=name, kind=kind, path=path, source="bundled", context_length=4096, **more)


CATALOG = Catalog(
    {
        "tiny": model("tiny", threads=1),
        "tiny-a": model("tiny-a", "adapter", base="tiny"),
        "tiny-b": model("tiny-b", "adapter", base="tiny"),
        "tiny-embed": model("tiny-embed", "embedding", pooling="mean"),
        "plain": model("plain"),
    }
)

GOLDEN = """\
version = 1

[tiny@1]
model = /m/tiny.gguf
ctx-size = 16384
parallel = 4
cache-ram = 0
stop-timeout = 1
threads = 1
lora = /m/tiny-a.gguf,/m/tiny-b.gguf
lora-init-without-apply = true
load-on-startup = true

[tiny-embed@1]
model = /m/tiny-embed.gguf
ctx-size = 16384
parallel = 4
cache-ram = 512
stop-timeout = 1
embeddings = true
batch-size = 4096
ubatch-size = 4096
pooling = mean

[plain@1]
model = /m/plain.gguf
ctx-size = 16384
parallel = 4
cache-ram = 512
stop-timeout = 1
"""


def layout(**more: Any) -> Layout:
    given = {"preload": ["tiny-a", "unknown"], **more}
    return lay_out(CATALOG, Settings.model_validate(given))


def test_the_preset_file() -> None:
    assert layout().ini() == GOLDEN


def test_only_the_section_of_a_preloaded_model_is_loaded_at_start() -> None:
    assert layout().preloaded == ("tiny@1",)
    assert layout(preload=[]).preloaded == ()


def test_every_adapter_is_named_for_every_model_of_its_section() -> None:
    """llama-server applies an adapter that a request leaves out."""
    scales = {
        name: place.lora and [entry["scale"] for entry in place.lora]
        for name, place in layout().placements.items()
    }
    assert scales == {
        "tiny": [0.0, 0.0],
        "tiny-a": [1.0, 0.0],
        "tiny-b": [0.0, 1.0],
        "tiny-embed": None,
        "plain": None,
    }
    first = layout().placements["tiny-b"].lora
    assert first is not None
    assert [entry["id"] for entry in first] == [0, 1]


def test_a_new_set_of_adapters_is_a_new_section() -> None:
    settings = Settings.model_validate({"preload": []})
    placed = lay_out(CATALOG, settings, {"tiny": 7}).placements
    assert placed["tiny-a"].section == "tiny@7"
    assert placed["plain"].section == "plain@1"


def after(catalog: Catalog, before: Layout, used: dict[str, int]) -> dict[str, str]:
    """Where each model of a changed catalogue answers."""
    settings = Settings.model_validate({"preload": ["tiny-a", "unknown"]})
    placed = succeed(before.sections, catalog, settings, used).placements
    return {name: place.section for name, place in placed.items()}


def test_an_unchanged_catalogue_keeps_every_section() -> None:
    described = {n: replace(m, description="other") for n, m in CATALOG.models.items()}
    placed = after(Catalog(described), layout(), {"tiny": 1, "plain": 1, "tiny-embed": 1})
    assert set(placed.values()) == {"tiny@1", "plain@1", "tiny-embed@1"}


@pytest.mark.parametrize(
    "changed",
    [
        CATALOG.hidden("tiny-b"),
        Catalog({**CATALOG.models, "tiny-c": model("tiny-c", "adapter", base="tiny")}),
        Catalog({**CATALOG.models, "tiny-b": replace(CATALOG.models["tiny-b"], modified=1)}),
        Catalog({**CATALOG.models, "tiny-b": replace(CATALOG.models["tiny-b"], sha256="1")}),
        Catalog({**CATALOG.models, "tiny": replace(CATALOG.models["tiny"], size=1)}),
    ],
    ids=["removed", "added", "adapter written again", "other content", "base written again"],
)
def test_what_changes_a_section_makes_a_new_one_of_that_base_alone(changed: Catalog) -> None:
    placed = after(changed, layout(), {"tiny": 4, "plain": 1, "tiny-embed": 1})
    family = {section for name, section in placed.items() if name in ("tiny", "tiny-a", "tiny-b")}
    assert family == {"tiny@5"}, "the generation after the last one used"
    assert (placed["plain"], placed["tiny-embed"]) == ("plain@1", "tiny-embed@1")


def test_a_base_that_comes_back_gets_a_generation_of_its_own() -> None:
    gone = lay_out(CATALOG.hidden("plain"), Settings.model_validate({"preload": []}))
    assert after(CATALOG, gone, {"tiny": 1, "plain": 1, "tiny-embed": 1})["plain"] == "plain@2"


def test_only_the_named_sections_are_loaded_at_start() -> None:
    """A router ends an instance whose preset has changed, `load-on-startup` included."""
    assert ini(layout().sections, ["plain@1"]).count("load-on-startup") == 1
    assert "load-on-startup" not in ini(layout().sections, [])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"slots": 2}, {"parallel": "2", "ctx-size": "8192"}),
        ({"ctx_size": 1000}, {"ctx-size": "4000"}),
        ({"ctx_size": 100_000}, {"ctx-size": "16384"}),
        ({"threads": 3}, {"threads": "3"}),
        ({"gpu_layers": 0}, {"n-gpu-layers": "0"}),
        ({"gpu_layers": 99}, {"n-gpu-layers": "99"}),
        ({"models": {"tiny": {"threads": 8}}, "threads": 3}, {"threads": "8"}),
        ({"models": {"tiny": {"slots": 1, "ctx_size": 9000}}}, {"ctx-size": "9000"}),
        ({"models": {"tiny": {"gpu_layers": 5}}, "gpu_layers": 0}, {"n-gpu-layers": "5"}),
    ],
)
def test_every_setting_reaches_its_option(given: dict[str, Any], expected: dict[str, str]) -> None:
    section = layout(**given).sections[0]
    assert section.name == "tiny@1"
    assert expected.items() <= section.options.items()


def test_past_prompts_are_kept_in_memory_only_where_there_are_no_adapters() -> None:
    kept = {s.name: s.options["cache-ram"] for s in layout(prompt_cache_mib=7).sections}
    assert kept == {"tiny@1": "0", "tiny-embed@1": "7", "plain@1": "7"}


def test_the_command_line_of_the_router() -> None:
    settings = Settings.model_validate({"llama_bin_dir": "/bin/llama", "models_max": 7})
    assert router_argv(settings, Path("/d/presets.ini"), 5555) == [
        "/bin/llama/llama-server",
        "--host",
        "127.0.0.1",
        "--port",
        "5555",
        "--models-preset",
        "/d/presets.ini",
        "--models-max",
        "1000000",
        "--threads-http",
        "256",
        "--no-ui",
        "--no-slots",
        "--offline",
        "--cors-origins",
        "localhost",
        "--no-cors-credentials",
        "--verbosity",
        "1",
        "--log-colors",
        "off",
        "--log-prefix",
        "--log-timestamps",
    ]


def test_llama_server_never_tells_more() -> None:
    """At 2 and above its log holds what requests said."""
    argv = router_argv(Settings.model_validate({"log_level": "debug"}), Path("/p"), 1)
    assert argv[argv.index("--verbosity") + 1] == "1"


def test_the_key_is_in_the_environment_not_in_the_arguments() -> None:
    endpoint = Endpoint(5555, "secret")
    assert router_environment(endpoint, Path("/none"))["LLAMA_API_KEY"] == "secret"
    assert router_environment(endpoint, Path("/none"))["MALLOC_MMAP_THRESHOLD_"] == "1048576"
    assert endpoint.url == "http://127.0.0.1:5555"
    assert "secret" not in repr(endpoint)
