"""A stream whose answer must have a form: its end is held back until the answer is known to have it. Pure."""

from corral.gateway.answers import Gathered
from corral.gateway.responses_shape import ResponsesShape
from corral.gateway.sse import END, Dialect, EventStream
from corral.gateway.structured import Form


class CheckedStream(EventStream):
    """Like any stream, but an answer that breaks its form never ends well: the event that would end it
    and all after it are kept back, and `fault` says why."""

    def __init__(
        self,
        dialect: Dialect,
        rename: tuple[bytes, bytes],
        shape: ResponsesShape | None,
        form: Form,
    ) -> None:
        super().__init__(dialect, rename, shape)
        self._gathered = Gathered(dialect)
        self._form = form

    @property
    def passes(self) -> bool:
        """Never: each event is looked at."""
        return False

    def feed(self, chunk: bytes) -> bytes:
        """The events that are complete now and may be passed on."""
        passed = b""
        for block in super().feed(chunk).split(END):
            if self.fault is None and block:
                self._look(block)
            if self.fault is not None:
                return passed
            passed += block + END if block else b""
        return passed

    def _look(self, block: bytes) -> None:
        for answer in self._gathered.event(block):
            self.fault = self.fault or self._form.check(answer)
