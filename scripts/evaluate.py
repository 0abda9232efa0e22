"""Ask a served model every row of a held-out file and compare its answers with the file's.

    python scripts/evaluate.py --url http://127.0.0.1:8000/v1 --model corral-tiny-folio --file tests/data/folio_heldout.jsonl

FILE is OpenAI chat JSONL; the last assistant message, text or tool calls, is the expected
answer. Prints one JSON object: rows, the share of
answers that are valid JSON, the share equal to the expected value after parsing (whole records right), and
milliseconds per row. `--wrong OUT` writes the rows that differ. Greedy. Exit code 3 when `--min-exact` is not reached.
"""

import argparse
import asyncio
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp


@dataclass(frozen=True)
class Outcome:
    """One row's result; `valid` is whether the answer parses as JSON, `exact` whether it equals the expected value."""

    prompt: str
    expected: str
    answer: str
    valid: bool
    exact: bool


def parsed(text: str) -> tuple[bool, Any]:
    try:
        return True, json.loads(text)
    except json.JSONDecodeError:
        return False, text


def calls(message: dict[str, Any]) -> str:
    """The tool calls of a message as JSON text, arguments parsed where they can be; empty without any."""
    made = [call["function"] for call in message.get("tool_calls") or []]
    named = [{"name": call["name"], "arguments": parsed(call["arguments"])[1]} for call in made]
    return json.dumps(named, ensure_ascii=False) if named else ""


def said(message: dict[str, Any]) -> str:
    """What a message amounts to: its tool calls, else its text."""
    return calls(message) or message.get("content") or ""


def judge(messages: list[dict[str, Any]], answer: str) -> Outcome:
    expected = said(messages[-1])
    valid, value = parsed(answer)
    same = value == parsed(expected)[1] if valid else answer.strip() == expected.strip()
    return Outcome(messages[-2]["content"], expected, answer, valid, same)


async def ask(
    session: aiohttp.ClientSession, args: argparse.Namespace, row: dict[str, Any]
) -> Outcome:
    body = {key: row[key] for key in ("tools",) if key in row} | {
        "model": args.model,
        "messages": row["messages"][:-1],
        "temperature": 0,
        "max_tokens": args.max_tokens,
    }
    headers = {"Authorization": f"Bearer {args.api_key}"}
    async with session.post(f"{args.url}/chat/completions", json=body, headers=headers) as reply:
        data = await reply.json()
        if reply.status != 200:
            raise SystemExit(f"{args.url} answered {reply.status}: {data['error']['message']}")
    return judge(row["messages"], said(data["choices"][0]["message"]))


async def run(args: argparse.Namespace, rows: list[dict[str, Any]]) -> list[Outcome]:
    connector = aiohttp.TCPConnector(limit=args.concurrency)
    async with aiohttp.ClientSession(
        connector=connector, timeout=aiohttp.ClientTimeout(600)
    ) as session:
        return await asyncio.gather(*(ask(session, args, row) for row in rows))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--url",
        default="http://127.0.0.1:8000/v1",
        help="base URL (default http://127.0.0.1:8000/v1)",
    )
    parser.add_argument("--api-key", default="local", help="API key, where the server asks for one")
    parser.add_argument("--model", required=True, help="name of the served model")
    parser.add_argument(
        "--file", type=Path, required=True, help="OpenAI chat JSONL with the expected answers"
    )
    parser.add_argument("--rows", type=int, help="only the first N rows")
    parser.add_argument(
        "--max-tokens", type=int, default=1500, help="longest answer (default 1500)"
    )
    parser.add_argument("--concurrency", type=int, default=4, help="requests at once (default 4)")
    parser.add_argument("--wrong", type=Path, help="write the rows that differ here, as JSONL")
    parser.add_argument(
        "--min-exact", type=float, help="exit with code 3 below this share of exact answers"
    )
    args = parser.parse_args()
    lines = args.file.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines][: args.rows]
    started = time.monotonic()
    outcomes = asyncio.run(run(args, rows))
    exact, valid = (
        sum(o.exact for o in outcomes) / len(outcomes),
        sum(o.valid for o in outcomes) / len(outcomes),
    )
    milliseconds = round(1000 * (time.monotonic() - started) / len(outcomes), 1)
    print(
        json.dumps(
            {
                "model": args.model,
                "rows": len(outcomes),
                "valid_json": valid,
                "exact": exact,
                "ms_per_row": milliseconds,
            }
        )
    )
    if args.wrong:
        lines = (json.dumps(vars(o), ensure_ascii=False) + "\n" for o in outcomes if not o.exact)
        args.wrong.write_text("".join(lines), encoding="utf-8")
    if args.min_exact is not None and exact < args.min_exact:
        sys.exit(3)


if __name__ == "__main__":
    main()
