"""Secrets and personal data in rows: warnings with the kind and place, never the secret itself.

A short list of patterns with fixed beginnings, not a scanner library: tried, detect-secrets takes
FOLIO's record ids and call numbers for secrets (its entropy plugins), and 3.1 ms for a 1 KB row.
What is not covered: passwords in prose, names and addresses, keys without a known beginning.
"""

import re
from typing import NamedTuple

from corral.datasets.findings import Place
from corral.datasets.rows import Message, Row, text_of


class Kind(NamedTuple):
    """One kind of thing. A text without any of `hints` has none of it, which is quick to see."""

    code: str
    name: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]


def _secret(name: str, pattern: str, *hints: str) -> Kind:
    return Kind("secret", name, hints, re.compile(pattern))


def _personal(name: str, pattern: str, *hints: str) -> Kind:
    return Kind("personal_data", name, hints, re.compile(pattern))


_CARD = "payment card number"
KINDS = (
    _secret("private key", r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----", "PRIVATE KEY"),
    _secret("AWS access key", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", "AKIA", "ASIA"),
    _secret(
        "GitHub token", r"\bgh[pousr]_[A-Za-z0-9]{36,}", "ghp_", "gho_", "ghu_", "ghs_", "ghr_"
    ),
    _secret("GitHub token", r"\bgithub_pat_\w{22,}", "github_pat_"),
    _secret("GitLab token", r"\bglpat-[\w-]{20,}", "glpat-"),
    _secret("Slack token", r"\bxox[abposr]-[\w-]{10,}", "xox"),
    _secret("Google API key", r"\bAIza[\w-]{35}", "AIza"),
    _secret("OpenAI or Anthropic key", r"\bsk-[A-Za-z0-9_-]{20,}", "sk-"),
    _secret("Hugging Face token", r"\bhf_[A-Za-z0-9]{30,}", "hf_"),
    _secret("Stripe key", r"\b[rs]k_live_\w{20,}", "k_live_"),
    _secret("npm token", r"\bnpm_[A-Za-z0-9]{36}", "npm_"),
    _secret("PyPI token", r"\bpypi-[\w-]{50,}", "pypi-"),
    _secret("JSON web token", r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}", "eyJ"),
    _secret("password in a URL", r"://[^\s/:@]{1,60}:[^\s/@]{3,60}@", "://"),
    _personal(
        "e-mail address",
        r"\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){0,5}\.[A-Za-z]{2,24}\b",
        "@",
    ),
    _personal("IBAN", r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}\b"),
    _personal(_CARD, r"\b\d(?:[ -]?\d){12,18}\b"),
    _personal("US social security number", r"\b\d{3}-\d{2}-\d{4}\b", "-"),
    _personal(
        "telephone number",
        r"(?<![\w/.-])\+\d{1,3}[ -]?(?:\(\d{1,4}\)[ -]?)?\d{2,4}(?:[ -]\d{2,4}){2,4}(?![\w-])",
        "+",
    ),
)


def check_sensitive(row: Row, place: Place) -> None:
    """Warn of each kind of secret or personal data, once for each field."""
    for field, text in (("prompt", row.prompt), ("completion", row.completion), ("text", row.text)):
        if text:
            _check_text(text, field, place)
    for field, turns in (
        ("messages", row.messages),
        ("chosen", row.chosen),
        ("rejected", row.rejected),
    ):
        for number, turn in enumerate(turns):
            _check_turn(turn, f"{field}[{number}]", place)


def _check_turn(turn: Message, here: str, place: Place) -> None:
    _check_text(text_of(turn.content), f"{here}.content", place)
    for index, call in enumerate(turn.tool_calls):
        _check_text(call.arguments, f"{here}.tool_calls[{index}].function.arguments", place)


def _check_text(text: str, field: str, place: Place) -> None:
    for kind in KINDS:
        if kind.hints and not any(hint in text for hint in kind.hints):
            continue
        for match in kind.pattern.finditer(text):
            if kind.name == _CARD and not _luhn(match[0]):
                continue
            where = f"at character {match.start() + 1}"
            place.warning(field, kind.code, f"found {_masked(match[0])} {where}: {kind.name}")
            break


def _masked(text: str) -> str:
    """Enough to find it again, too little to use it."""
    return f"{text[:4]!r}… ({len(text)} characters)"


def _luhn(text: str) -> bool:
    """Whether digits carry the check digit of payment cards."""
    digits = [int(mark) for mark in text if mark.isdigit()]
    total = sum(digits[-1::-2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return total % 10 == 0 and len(set(digits)) > 1
