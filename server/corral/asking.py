"""How routes learn who asks: the gateway has noted it in the ASGI scope."""

from typing import Annotated

from fastapi import Depends, Request
from starlette.types import Scope

from corral.caller import Caller

CALLER = "corral.caller"


def caller(scope: Scope) -> Caller:
    """Who asks. KeyError where the gateway has let nobody in: such a route must not answer."""
    found: Caller = scope[CALLER]
    return found


async def _caller(request: Request) -> Caller:
    return caller(request.scope)


# For routes: `async def show(self, id: str, asking: Asking)`.
Asking = Annotated[Caller, Depends(_caller)]
