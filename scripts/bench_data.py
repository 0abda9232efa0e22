"""Compare `corral data convert` and `check` with Hugging Face `datasets` on one big JSONL file.

    python scripts/bench_data.py --hf-python VENV/bin/python            # 1,000,000 rows, 1 GB
    python scripts/bench_data.py --rows 100000 --hf-python VENV/bin/python --json

VENV has `datasets`; it clashes with nothing, so it may be this interpreter. Both sides read OpenAI
chat rows, check every turn's role and content, and write ShareGPT rows. Corral runs `convert
--check`, which looks for duplicates too (not for near-duplicates and secrets), then `check` alone,
whose time is given apart. Each side runs in a process of its own, one after the other, with one
worker; `datasets` without its cache. Prints rows/s, the ratio, and the peak memory of each.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_WORDS = [
    "record",
    "title",
    "place",
    "publisher",
    "library",
    "shelf",
    "author",
    "edition",
    "volume",
    "series",
    "note",
    "subject",
    "date",
]

HF_PROGRAM = """
import json, resource, sys, time
import datasets
from datasets import load_dataset
datasets.disable_progress_bars()
ROLES = {"system", "user", "assistant"}
def convert(row):
    turns, system = [], None
    for turn in row["messages"]:
        role, content = turn["role"], turn["content"]
        if role not in ROLES or not isinstance(content, str):
            raise ValueError(role)
        if role == "assistant" and not content.strip():
            raise ValueError("empty answer")
        if role == "system":
            system = content
        else:
            turns.append({"from": "human" if role == "user" else "gpt", "value": content})
    return {"conversations": turns, "system": system}
begin, cpu = time.perf_counter(), time.process_time()
rows = load_dataset("json", data_files=sys.argv[1], split="train", cache_dir=sys.argv[3])
loaded = time.perf_counter()
rows = rows.map(convert, remove_columns=["messages"])
mapped = time.perf_counter()
rows.to_json(sys.argv[2])
end = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"rows": len(rows), "load": loaded - begin, "map": mapped - loaded,
                  "write": end - mapped, "seconds": end - begin, "cpu": time.process_time() - cpu, "peak_mib": peak / 1024}))
"""


def generate(path: Path, rows: int, seed: int = 1) -> None:
    """Write chat rows of about 1,000 bytes each, all different."""
    draw = random.Random(seed)
    texts = [" ".join(draw.choices(_WORDS, k=40)) for _ in range(500)]
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            messages = [
                {
                    "role": "system",
                    "content": "As an expert cataloger, you will create the record.",
                },
                {"role": "user", "content": f"For item {number}: {draw.choice(texts)}"},
                {
                    "role": "assistant",
                    "content": f"{number} é “{draw.choice(texts)}”\n{draw.choice(texts)}",
                },
            ]
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")


def corral_side(source: Path, target: Path) -> dict[str, float]:
    """Convert, then check, in this process."""
    from corral.datasets import check, convert
    from corral.datasets.findings import Findings

    begin, cpu = time.perf_counter(), time.process_time()
    findings = Findings()
    results = convert.convert(source, target, convert.Options(to="sharegpt", check=True), findings)
    converted, converted_cpu = time.perf_counter(), time.process_time()
    options = check.Options(near_duplicates=False, sensitive=False)
    reports = check.check_files([source], findings, options)
    end = time.perf_counter()
    if findings.failed or results[0].written != reports[0].rows:
        raise SystemExit(f"unexpected findings: {findings.summary()}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "rows": reports[0].rows,
        "seconds": converted - begin,
        "cpu": converted_cpu - cpu,
        "check_alone": end - converted,
        "peak_mib": peak / 1024,
    }


def run(command: list[str]) -> dict[str, float]:
    """The JSON object on the last line of a command's output."""
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def same_rows(one: Path, other: Path) -> bool:
    """Whether both sides wrote the same values, row by row."""
    with one.open(encoding="utf-8") as left, other.open(encoding="utf-8") as right:
        return all(json.loads(a) == json.loads(b) for a, b in zip(left, right, strict=True))


def compare(rows: int, hf_python: str, folder: Path, repeat: int = 1) -> dict[str, object]:
    """Generate, run both sides by turns and keep the best of each, compare what they wrote."""
    source, ours, theirs = folder / "rows.jsonl", folder / "corral.jsonl", folder / "hf.jsonl"
    generate(source, rows)
    runs: list[tuple[dict[str, float], dict[str, float]]] = []
    for number in range(repeat):
        one = run([sys.executable, __file__, "--side", str(source), str(ours)])
        cache = str(folder / f"cache{number}")
        runs.append((one, run([hf_python, "-c", HF_PROGRAM, str(source), str(theirs), cache])))
    corral, hf = (
        min(side, key=lambda result: result["seconds"]) for side in zip(*runs, strict=True)
    )
    return {
        "rows": rows,
        "bytes": source.stat().st_size,
        "corral": corral,
        "datasets": hf,
        "same_rows": same_rows(ours, theirs),
        "ratio": hf["seconds"] / corral["seconds"],
        "ratio_of_cpu": hf["cpu"] / corral["cpu"],
        "ratio_to_map_alone": hf["map"] / corral["seconds"],
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--hf-python", default=sys.executable, help="a Python that has datasets")
    parser.add_argument(
        "--folder", type=Path, help="where the files go; a temporary folder by default"
    )
    parser.add_argument("--repeat", type=int, default=1, help="runs of each side, by turns")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", nargs=2, type=Path, metavar=("IN", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(corral_side(*arguments.side)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="bench-data-") as folder:
        result = compare(arguments.rows, arguments.hf_python, Path(folder), arguments.repeat)
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    for side in ("corral", "datasets"):
        figures = result[side]
        assert isinstance(figures, dict)
        steps = ", ".join(
            f"{k} {v:.1f} s" for k, v in figures.items() if k not in ("rows", "seconds", "peak_mib")
        )
        speed = result["rows"] / figures["seconds"]
        print(f"{side:9} {speed:10,.0f} rows/s  peak {figures['peak_mib']:,.0f} MiB  ({steps})")
    print(
        f"ratio {result['ratio']:.1f} (of CPU time {result['ratio_of_cpu']:.1f}; to datasets' map "
        f"alone {result['ratio_to_map_alone']:.1f}); same rows: {result['same_rows']}"
    )


if __name__ == "__main__":
    main()
