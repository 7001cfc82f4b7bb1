"""What a training by stochastic gradients went through."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Ascent:
    """What a stochastic training went through.

    Attributes
    ----------
    bound, seconds
        Mean bound per cell, averaged over ten steps each (the last few may be fewer), and time since the start.
    n_steps, n_skipped
        Steps taken, and steps left out because something was not finite.
    interrupted, failed
        Whether Ctrl-C ended it, or something that was not finite.
    """

    bound: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    n_steps: int = 0
    n_skipped: int = 0
    interrupted: bool = False
    failed: bool = False

    @property
    def reason(self) -> str:
        """What happened, in words."""
        if not (self.n_steps or self.interrupted):
            return "nothing was left for stochastic steps to train"
        skipped = f" ({self.n_skipped:,} of them skipped, since something was not finite)" if self.n_skipped else ""
        steps = f"{self.n_steps:,} stochastic steps{skipped}"
        if self.failed:
            return f"failed after {steps}; the last good parameters are kept"
        return f"interrupted after {steps}; what they reached is kept" if self.interrupted else steps
