"""Fine-tune with OpenAI's own SDK: two files, one job, a model that answers under its new name.

make setup-train && make serve             # in another terminal
pip install openai
python examples/finetune_sdk.py            # or with another base URL as its argument

A library's cataloguing, 1,000 rows (examples/data/folio_train.jsonl, made by scripts/generate_folio.py): the base knows nothing of it,
the tuned model is asked 300 rows that no training saw. Minutes on two CPU cores. `make demo` does it all.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from openai import OpenAI

HERE = Path(__file__).resolve().parent
TRAIN = HERE / "data" / "folio_train.jsonl"
HELD_OUT = HERE.parent / "tests" / "data" / "folio_heldout.jsonl"
ENDED = ("succeeded", "failed", "cancelled")


def upload(client: OpenAI, path: Path) -> str:
    """The id of the file."""
    with path.open("rb") as file:
        return client.files.create(file=file, purpose="fine-tune").id


def follow(client: OpenAI, job_id: str) -> Any:
    """The job once it has ended; its messages as they come."""
    seen: set[str] = set()
    while True:
        job = client.fine_tuning.jobs.retrieve(job_id)
        # Newest first, as OpenAI gives them.
        for event in reversed(client.fine_tuning.jobs.list_events(job_id, limit=20).data):
            if event.id not in seen:
                seen.add(event.id)
                print(time.strftime("%H:%M:%S"), event.message, flush=True)
        if job.status in ENDED:
            return job
        time.sleep(2)


def before_and_after(client: OpenAI, job: Any) -> dict[str, Any]:
    """The evaluation among the job's result files."""
    for file_id in job.result_files:
        if client.files.retrieve(file_id).filename.endswith("evaluation.json"):
            found: dict[str, Any] = json.loads(client.files.content(file_id).read())
            return found
    raise SystemExit("the job has no evaluation among its result files")


def show(evaluation: dict[str, Any]) -> None:
    """One line for each model."""
    print(f"\n{'':12}{'whole record right':>20}{'valid JSON':>12}{'field F1':>10}")
    for model in evaluation["models"]:
        print(
            f"{model['model']:12}{model['exact']:>20.1%}{model['valid_json']:>12.1%}{model['field_f1']:>10.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--train", type=Path, default=TRAIN)
    parser.add_argument("--held-out", type=Path, default=HELD_OUT)
    args = parser.parse_args()
    # The SDK wants some key; Corral asks for one only where keys were made.
    client, began = OpenAI(base_url=args.url, api_key="any"), time.monotonic()
    held_out = upload(client, args.held_out)
    job = client.fine_tuning.jobs.create(
        model="corral-tiny",
        training_file=upload(client, args.train),
        suffix="folio",
        seed=1,
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": args.epochs}},
        },
        # What OpenAI has no field for: the rows to measure with, and quantised weights to compare.
        extra_body={
            "corral": {
                "evaluation_file": held_out,
                "evaluation_rows": 300,
                "quantise": ["Q8_0"],
            }
        },
    )
    job = follow(client, job.id)
    if job.status != "succeeded":
        raise SystemExit(f"the job has {job.status}: {job.error and job.error.message}")
    show(before_and_after(client, job))
    messages = json.loads(args.held_out.read_text("utf-8").splitlines()[0])["messages"]
    answer = client.chat.completions.create(model=job.fine_tuned_model, messages=messages[:-1])
    print(f"\n{messages[-2]['content']}\n{job.fine_tuned_model} answers:")
    print(answer.choices[0].message.content)
    print(f"\nfrom the file to this answer: {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
