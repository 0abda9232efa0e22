"""The catalogue as each caller sees it, made once per catalogue and kind of caller."""

from collections.abc import Callable

from corral.caller import Caller
from corral.registry.catalog import Catalog


class Views:
    """Remembers the views of the catalogue that is served now. One event loop's."""

    def __init__(self) -> None:
        self._of: Catalog | None = None
        self._views: dict[tuple[str | None, frozenset[str] | None, str], Catalog] = {}

    def seen(self, catalog: Catalog, caller: Caller) -> Catalog:
        """`catalog` as `caller` sees it."""
        if caller.sees_all_models:
            return catalog
        if catalog is not self._of:
            self._of, self._views = catalog, {}
        key = (caller.only, caller.models, caller.owner)
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = catalog.seen_by(caller)
        return view

    def eyes(self, caller: Caller) -> Callable[[Catalog], Catalog] | None:
        """What turns a catalogue into the caller's view; None where that is all of it."""
        if caller.sees_all_models:
            return None
        return lambda catalog: self.seen(catalog, caller)
