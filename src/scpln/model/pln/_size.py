"""What tables models in gene space take."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scpln.inference.genespace import PosteriorName
    from scpln.model.base import ScplnModel

#: Most genes of full-rank posteriors, for each of which a matrix of genes × genes is inverted, and of any.
MOST_GENES: dict[PosteriorName, int] = {"fullrank": 1000, "meanfield": 5000}


def check_size(model: ScplnModel, posterior: PosteriorName) -> None:
    """Raise an error unless the data are counts of no more genes than such posteriors are for."""
    if not model.is_count_data:
        msg = (
            f"{type(model).__name__} models counts, and these data were set up with is_count_data=False. Set up counts, or take "
            "PLNPCA(likelihood='gaussian')."
        )
        raise ValueError(msg)
    p, most = len(model.genes), MOST_GENES[posterior]
    if p > most:
        other = (
            f"posterior='meanfield' takes up to {MOST_GENES['meanfield']:,}. " if most < MOST_GENES["meanfield"] else ""
        )
        msg = (
            f"posterior={posterior!r} is for up to {most:,} genes, and there are {p:,}: every cell has a matrix of genes × genes. "
            f"{other}Choose genes, or take PLNPCA, whose time and memory are linear in genes."
        )
        raise ValueError(msg)
