"""Secrets and personal data in rows: warnings with the kind and place, never the secret itself.

A short list of patterns with fixed beginnings, not a scanner library: detect-secrets' entropy
plugins take identifiers and call numbers, of which catalogue records are full, for secrets. What
is not covered: passwords in prose, names and addresses, keys without a known beginning.
"""

import re

from corral.datasets.findings import Place
from corral.datasets.rows import Message, Row, text_of

SECRETS = {
    "private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{22,})",
    "GitLab token": r"\bglpat-[\w-]{20,}",
    "Slack token": r"\bxox[abposr]-[\w-]{10,}",
    "Google API key": r"\bAIza[\w-]{35}",
    "OpenAI or Anthropic key": r"\bsk-[A-Za-z0-9_-]{20,}",
    "Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}",
    "Stripe key": r"\b[rs]k_live_\w{20,}",
    "npm or PyPI token": r"\b(?:npm_[A-Za-z0-9]{36}|pypi-[\w-]{50,})",
    "JSON web token": r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
    "password in a URL": r"\b[a-z][a-z0-9+.-]{1,15}://[^\s/:@]{1,60}:[^\s/@]{3,60}@",
}
PERSONAL = {
    "e-mail address": r"\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){0,5}\.[A-Za-z]{2,24}\b",
    "IBAN": r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}\b",
    "payment card number": r"\b\d(?:[ -]?\d){12,18}\b",
    "US social security number": r"\b\d{3}-\d{2}-\d{4}\b",
    "telephone number": r"(?<![\w/.-])\+\d{1,3}[ -]?(?:\(\d{1,4}\)[ -]?)?\d{2,4}(?:[ -]\d{2,4}){2,4}(?![\w-])",
}


def _compiled(patterns: dict[str, str]) -> tuple[re.Pattern[str], list[str]]:
    return re.compile("|".join(f"({pattern})" for pattern in patterns.values())), list(patterns)


_KINDS = (("secret", *_compiled(SECRETS)), ("personal_data", *_compiled(PERSONAL)))
# Every pattern needs one of these, so that most texts are done with at once.
_HINT = re.compile(
    r"-----BEGIN|AKIA|ASIA|gh[pousr]_|github_pat|glpat|xox|AIza|sk-|hf_|k_live|npm_|pypi-|eyJ|@|\d{3}|\+\d"
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
    if not _HINT.search(text):
        return
    for code, pattern, names in _KINDS:
        found: dict[str, tuple[str, int]] = {}
        for match in pattern.finditer(text):
            name = names[(match.lastindex or 1) - 1]
            if name == "payment card number" and not _luhn(match[0]):
                continue
            found.setdefault(name, (match[0], match.start()))
        for name, (text_found, start) in found.items():
            place.warning(
                field, code, f"found {_masked(text_found)} at character {start + 1}: {name}"
            )


def _masked(text: str) -> str:
    """Enough to find it again, too little to use it."""
    return f"{text[:4]!r}… ({len(text)} characters)"


def _luhn(text: str) -> bool:
    """Whether digits carry the check digit of payment cards."""
    digits = [int(mark) for mark in text if mark.isdigit()]
    total = sum(digits[-1::-2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return total % 10 == 0 and len(set(digits)) > 1
