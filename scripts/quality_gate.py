"""The bar that a quantised file must reach, and what is said of one that does not."""

from dataclasses import dataclass
from typing import Any

# What a type may lose, measured on the bundled model: docs/models.md has the figures.
MAX_KLD = 0.05
# Without --min-score: how far the score may fall below the unquantised model's own.
MAX_SCORE_LOSS = 0.05


@dataclass(frozen=True)
class Gate:
    """The bar. `min_score` is a share of rows; without scores it says nothing."""

    max_kld: float
    min_score: float | None

    def judge(self, row: dict[str, Any]) -> dict[str, Any]:
        """Whether the figures pass, and why not."""
        why = []
        if row["kld_mean"] > self.max_kld:
            why.append(f"KL divergence {row['kld_mean']:.4f} is over {self.max_kld:g}")
        score = row.get("score")
        if score is not None and self.min_score is not None and score < self.min_score:
            why.append(f"score {score:.1%} is under {self.min_score:.1%}")
        return {"passed": not why, "why": why}


def refusal(refused: list[dict[str, Any]]) -> str:
    """Why, for each file, and what to do."""
    each = "; ".join(f"{row['type']}: {' and '.join(row['gate']['why'])}" for row in refused)
    return (
        f"refused, nothing is registered: {each}. Take a type with more bits, a calibration text of "
        "the model's own domain, or another bar (--max-kld, --min-score)"
    )
