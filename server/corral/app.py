"""Put the parts together: the only module that knows every one of them."""

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, closing, nullcontext
from importlib.metadata import version as installed_version

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp, Receive, Scope, Send

from corral.errors import StartupError
from corral.files.routes import FileRoutes, body_limit
from corral.files.store import Files
from corral.files.sweeper import sweeping
from corral.files.upload_routes import UploadRoutes
from corral.finetune import KINDS as FINETUNE
from corral.finetune.routes import FineTuningRoutes
from corral.gateway import handlers, health, models, routes
from corral.gateway.accounting import Accounting
from corral.gateway.admission import Admission
from corral.gateway.auth import AuthMiddleware
from corral.gateway.context import ContextMiddleware
from corral.gateway.cut import Stopping
from corral.gateway.deps import Gateway
from corral.gateway.gauges import Gauges
from corral.gateway.limits import LimitMiddleware
from corral.gateway.origins import CORSHeaders, OriginCheck
from corral.gateway.outlet import FOREIGN
from corral.gateway.passed import PASSED
from corral.gateway.rules import Rules
from corral.gateway.shortcut import Shortcut
from corral.gateway.traces import over_otlp
from corral.jobs.kinds import Kinds
from corral.jobs.routes import JobRoutes
from corral.jobs.tally import unfinished
from corral.keys.keyring import Keyring
from corral.keys.routes import KeyRoutes
from corral.keys.usage import Ledger
from corral.metrics import Metrics
from corral.openapi import describe
from corral.registry.catalog import Catalog
from corral.registry.scan import scan
from corral.registry.store import Registry
from corral.runtime.upstream import Runtime
from corral.settings import Settings, traces_wanted
from corral.shelf import KINDS as SHELF

KINDS = SHELF.beside(FINETUNE)
# FastAPI's own, on by default: Corral's traces say it without addresses, and each request was asked
# whether anybody wants it, 3% of a plain one.
NO_TELEMETRY: TelemetryConfig = {
    "tracing": False, "metrics": False, "logs": False, "auto_configure": False,
}  # fmt: skip


class Application(FastAPI):
    """FastAPI inside Corral's own layers, which stand before all of Starlette's: a request for llama-server
    passes through four of those for nothing, each time that it goes on."""

    layers: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        await self.layers(scope, receive, send)

    def inner(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """What the innermost layer calls."""
        return super().__call__(scope, receive, send)


def create_app(
    settings: Settings, catalog: Catalog | None = None, kinds: Kinds = KINDS
) -> Application:
    """The whole application. llama-server runs from the start of its lifespan to the end; workers
    are no part of it (`corral.server` starts them)."""
    metrics = Metrics()
    catalog = catalog if catalog is not None else scan(settings)
    version = Registry(settings).version
    runtime = Runtime(settings, catalog, metrics.upstream_restarts.inc, version)
    admission = Admission(settings.queue_size)
    gauges = Gauges(runtime, admission, lambda: unfinished(settings))
    traces = over_otlp() if traces_wanted() else None
    accounting = Accounting(metrics, traces.record if traces else None)
    gateway = Gateway(settings, runtime, metrics, accounting, gauges, admission, Stopping())
    files = Files(settings)

    keyring = Keyring(settings, Ledger(settings))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if not getattr(app.state, "own_server", False):
            raise StartupError(FOREIGN)
        with closing(traces) if traces else nullcontext():
            try:
                async with keyring.running(), runtime.running(), sweeping(files):
                    yield
            finally:
                accounting.settle()

    app = Application(
        title="Corral",
        version=installed_version("corral"),
        lifespan=lifespan,
        telemetry=NO_TELEMETRY,
        redirect_slashes=False,
    )
    app.state.gateway = gateway
    app.state.keyring = keyring
    own = (
        JobRoutes(settings, kinds, gateway.stopping).router(),
        FileRoutes(settings, files).router(),
        UploadRoutes(settings, files).router(),
        FineTuningRoutes(settings).router(),
        KeyRoutes(settings, keyring).router(),
    )
    for router in (routes.build_router(), models.router, health.router, *own):
        app.include_router(router)
    rules = Rules(path for passed in PASSED for path in passed.paths)
    rules.check(app.routes)
    describe(app, rules.need)
    handlers.install(app)
    # From the innermost out.
    layer: ASGIApp = Shortcut(app.inner, gateway)
    layer = LimitMiddleware(layer, settings, body_limit(settings))
    layer = AuthMiddleware(layer, settings, keyring, rules)
    layer = OriginCheck(layer, settings.cors_origins)
    layer = ContextMiddleware(layer, accounting)
    app.layers = CORSHeaders(layer, settings.cors_origins)
    return app
