"""Memory of common GPUs, for `corral models fit --gpu`: names as people write them."""

import re

from corral.errors import BadRequest
from corral.registry.fit import GIB, Place

# GB as on the makers' data sheets (nvidia.com, amd.com, intel.com: "memory size" of each product
# page); sheets call 2**30 bytes a GB. Apple's machines share theirs: see `--gpu 16GB`.
GIGABYTES = {
    "RTX 3060": 12, "RTX 3070": 8, "RTX 3080": 10, "RTX 3090": 24,
    "RTX 4060": 8, "RTX 4060 Ti 16GB": 16, "RTX 4070": 12, "RTX 4080": 16, "RTX 4090": 24,
    "RTX 5060": 8, "RTX 5070": 12, "RTX 5070 Ti": 16, "RTX 5080": 16, "RTX 5090": 32,
    "RTX A4000": 16, "RTX A5000": 24, "RTX A6000": 48, "RTX 6000 Ada": 48,
    "T4": 16, "L4": 24, "A10": 24, "L40S": 48, "V100 32GB": 32,
    "A100 40GB": 40, "A100 80GB": 80, "H100": 80, "H200": 141, "B200": 180,
    "RX 7600": 8, "RX 7800 XT": 16, "RX 7900 XTX": 24, "MI210": 64, "MI300X": 192,
    "Arc A770": 16, "Arc B580": 12,
}  # fmt: skip
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:gb|gib|g)\Z", re.I)


def _plain(name: str) -> str:
    """Without spaces, hyphens and makers: `NVIDIA GeForce RTX 4090` is `rtx4090`."""
    kept = re.sub(r"nvidia|geforce|radeon|amd|intel|tesla|instinct", "", name.lower())
    return re.sub(r"[^a-z0-9]", "", kept)


def named_gpu(name: str) -> Place:
    """The GPU called `name`, or of a size such as `24GB`, all of it free."""
    size = SIZE.match(name.strip())
    if size:
        room = int(float(size[1]) * GIB)
        return Place(f"GPU of {name.strip()}", room, room)
    asked = _plain(name)
    exact = [known for known in GIGABYTES if _plain(known) == asked]
    ending = [known for known in GIGABYTES if asked and _plain(known).endswith(asked)]
    for known in exact or (ending if len(ending) == 1 else []):
        return Place(known, GIGABYTES[known] * GIB, GIGABYTES[known] * GIB)
    raise BadRequest(
        f"--gpu `{name}` is not in the table; give its memory (`--gpu 24GB`) or one of: "
        f"{', '.join(GIGABYTES)}",
        param="gpu",
    )
