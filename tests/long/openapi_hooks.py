"""What schemathesis sends, led to where it is looked at: the name of a model, the ids of things made.

Loaded by schemathesis in its own environment; no part of Corral. A wrong value stays wrong: only about
half of the good ones are replaced.
"""

from typing import Any

import schemathesis  # type: ignore[import-not-found]  # lives in an environment of its own

KINDS = {
    "file": "file_id",
    "upload": "upload_id",
    "corral.key": "key_id",
    "corral.job": "job_id",
    "fine_tuning.job": "job_id",
}
SEEN = {"name": "tiny"}


def led(name: str, value: Any) -> Any:
    """The last id of that kind in place of a good value."""
    good = isinstance(value, str) and value.strip() and len(value) % 2
    return SEEN[name] if good and name in SEEN else value


def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> Any:
    """The ids in paths."""
    found = path_parameters or {}
    return {name: led(name, value) for name, value in found.items()}


def map_body(context: Any, body: Any) -> Any:
    """`model`, and the files of a fine-tuning job."""
    if not isinstance(body, dict):
        return body
    places = {"model": "name", "training_file": "file_id"}
    return {key: led(places.get(key, ""), value) for key, value in body.items()}


def after_call(context: Any, case: Any, response: Any) -> None:
    """Note what there is now."""
    try:
        made = response.json()
    except ValueError:
        return
    if isinstance(made, dict) and made.get("object") in KINDS and not made.get("deleted"):
        SEEN[KINDS[made["object"]]] = made["id"]


for each in (map_path_parameters, map_body, after_call):
    schemathesis.hook(each)
