"""A page of a list, in the shape of OpenAI's API."""

from typing import Any


def page(data: list[dict[str, Any]], more: bool) -> dict[str, Any]:
    """The objects, and whether others follow."""
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": more,
    }
