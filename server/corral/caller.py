"""Who asks: the API key behind a request, what it may do, and whose things it sees.

The gateway finds out (`corral.gateway.auth`); every route that shows or changes something of somebody's
takes it as `corral.asking.Asking`.
"""

from dataclasses import dataclass
from typing import Literal

# Who owns what was made without a key, on the command line, and with administrators' keys: the house.
# Its models are everybody's; its files and jobs are not.
HOUSE = "local"

Permission = Literal["inference", "files", "training", "admin"]
PERMISSIONS: tuple[Permission, ...] = ("inference", "files", "training", "admin")
# Whose requests wait for whose, where several wait for the same model; the best first.
Priority = Literal["high", "normal", "low"]


@dataclass(frozen=True, slots=True)
class Caller:
    """`id` names the key and is no secret. `models`: the names it may use; None: all of them."""

    id: str = HOUSE
    owner: str = HOUSE
    scopes: frozenset[str] = frozenset(PERMISSIONS)
    models: frozenset[str] | None = None
    priority: Priority = "normal"

    def may(self, permission: Permission) -> bool:
        """Whether its scopes allow that; `admin` allows everything."""
        return permission in self.scopes or "admin" in self.scopes

    @property
    def only(self) -> str | None:
        """Whose files, jobs and models it sees; None: everybody's."""
        return None if "admin" in self.scopes else self.owner

    @property
    def sees_all_models(self) -> bool:
        """Whether no model is kept from it."""
        return self.models is None and "admin" in self.scopes


# Who asks on the command line, and over loopback while no key has been made.
ANYBODY = Caller()
