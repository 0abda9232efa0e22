"""Which of an instance's slots a request should have, where there are adapters. One event loop's.

llama-server takes the slot whose last prompt begins most like the new one, whatever adapter read it, and
then throws that prompt away when the adapters differ: two models that share a prompt drive each other out
of their slots. So here each slot's model counts first. Without adapters llama-server's own choice is as
good (docs/performance.md), and it is left to it. What another choice costs is time, never an answer.
"""

from collections import OrderedDict
from dataclasses import dataclass

# Of a prompt, for telling which slot has read something like it.
HEAD_BYTES = 16_384
# Below this share llama-server would not call two prompts alike either.
LIKE = 0.1
MOST_SECTIONS = 256


@dataclass(slots=True)
class Slot:
    """What it has read last, as far as is known here."""

    number: int
    model: str = ""
    head: bytes = b""
    busy: bool = False


class Slots:
    """The slots of every section, each section's in the order of their last use."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, list[Slot]] = OrderedDict()

    def take(self, section: str, count: int, model: str, head: bytes) -> Slot | None:
        """The best free one of `count`; to be given back by `free`. None where none is free."""
        there = self._of.setdefault(section, [Slot(number) for number in range(count)])
        self._of.move_to_end(section)
        while len(self._of) > MOST_SECTIONS:
            self._of.popitem(last=False)
        free = [slot for slot in there if not slot.busy]
        if not free:
            return None
        alike = [(_shared(slot.head, head) if slot.model == model else 0) for slot in free]
        most = max(alike)
        # The first is the one whose last use is longest ago, or that was never used.
        slot = free[alike.index(most)] if most > LIKE * len(head) else free[0]
        there.remove(slot)
        there.append(slot)
        slot.model, slot.head, slot.busy = model, head, True
        return slot

    def free(self, slot: Slot) -> None:
        """Its request has ended."""
        slot.busy = False


def head(sent: bytes, field: str) -> bytes:
    """The beginning of the prompt in a body for llama-server; `field` holds it."""
    at = sent.find(b'"%s":' % field.encode())
    return sent[at : at + HEAD_BYTES] if at >= 0 else b""


def pinned(sent: bytes, slot: int | None) -> bytes:
    """The body with the slot in it."""
    return sent if slot is None else b'{"id_slot":%d,' % slot + sent[1:]


def _shared(one: bytes, other: bytes) -> int:
    """How long a beginning they share: by halves, since comparing is quick and a loop is not."""
    least, most = 0, min(len(one), len(other))
    while least < most:
        middle = (least + most + 1) // 2
        if one[:middle] == other[:middle]:
            least = middle
        else:
            most = middle - 1
    return least
