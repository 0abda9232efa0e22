"""The image's HEALTHCHECK: exit status 0 when the gateway in this container answers /ready with 200.

Standard library only while no key is set: it runs every few seconds.
"""

import http.client
import os
import sys

SECONDS = 4


def main() -> int:
    """Ask once; with a key of the server's own when it wants one."""
    status = ask({})
    if status == 401:
        from corral import settings

        keys = settings.load().api_keys
        status = ask({"Authorization": f"Bearer {keys[0].get_secret_value()}"})
    print(f"/ready answers {status}")
    return 0 if status == 200 else 1


def ask(headers: dict[str, str]) -> int:
    """The status of GET /ready on this container's loopback."""
    port = int(os.environ.get("CORRAL_PORT", "8000"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    connection.request("GET", "/ready", headers=headers)
    return connection.getresponse().status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OSError as error:
        sys.exit(f"/ready cannot be reached: {error}")
