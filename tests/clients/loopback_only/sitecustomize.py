"""Refuse every connection that leaves this machine, in any Python program.

Put this folder on PYTHONPATH: Python imports `sitecustomize` by itself, before the program. A refusal
raises in the program and is told on stderr, so that a library that tries and falls back is found too.
Does not cover: code that opens sockets outside Python (uvloop, a child that is no Python).
"""

import sys
from typing import Any

MARK = "left this machine"
LOOPBACK = ("localhost", "127.", "::1", "::ffff:127.")


def _refuse_outside(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else "localhost"
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    name = host.decode() if isinstance(host, bytes) else host
    if name and not name.startswith(LOOPBACK):
        print(f"a connection to {name} would have {MARK}", file=sys.stderr, flush=True)
        raise ConnectionRefusedError(f"tests stay on this machine, {name} does not")


sys.addaudithook(_refuse_outside)
