"""What routes need of the application, as one typed object."""

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from corral.caller import Caller
from corral.gateway.accounting import Accounting
from corral.gateway.admission import Admission
from corral.gateway.cut import Stopping
from corral.gateway.gauges import Gauges
from corral.gateway.views import Views
from corral.metrics import Metrics
from corral.registry.catalog import Catalog
from corral.runtime.upstream import Runtime
from corral.settings import Settings


@dataclass(frozen=True)
class Gateway:
    """The parts that `create_app` has put together. `stopping` is set when streams must end."""

    settings: Settings
    runtime: Runtime
    metrics: Metrics
    accounting: Accounting
    gauges: Gauges
    admission: Admission
    stopping: Stopping
    views: Views = field(default_factory=Views)

    @property
    def catalog(self) -> Catalog:
        """What is served now. Take it once per request: it may be another after any await."""
        return self.runtime.serving.catalog

    def seen_by(self, caller: Caller) -> Catalog:
        """That, as this caller sees it."""
        return self.views.seen(self.catalog, caller)


async def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


InGateway = Annotated[Gateway, Depends(_gateway)]
