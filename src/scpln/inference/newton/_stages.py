"""The stages that every fit by Newton's method goes through, in numbers."""

from __future__ import annotations

#: Variance of the posteriors that the first iterations assume.
START_VARIANCE = 0.1
#: Data with more cells than `COARSE_RATIO` times `COARSE_CELLS` are first fitted on that many, drawn at random.
COARSE_CELLS, COARSE_RATIO = 10_000, 3
#: Cells whose posteriors decide on the axes of mean-field, and iterations after which these are rotated again.
AXES_CELLS, AXES_ITERATIONS = 200, (10, 30)
#: Steps per cell in a first pass that starts at the prior's means, or after the axes were rotated.
STEPS_FROM_PRIOR, STEPS_AFTER_ROTATION = 10, 2
#: Why a fit ended that was interrupted after one stage and before the next.
BETWEEN_STAGES = "interrupted between two stages; what was reached is kept"
