"""How PLN-PCA is trained, and how its stages ended."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from scpln.utils import check_belongs

if TYPE_CHECKING:
    from scpln.train import Ascent, NotFiniteError

#: How B and C are estimated, the default first.
InferenceName = Literal["variational", "importance"]
#: Most iterations of Newton's method, and the gain that ends them, nats per cell.
MAX_EPOCHS, TOLERANCE = 500, 1e-4
#: Fewest steps of stochastic training, and passes over the data that these should make.
STEPS, EPOCHS = 1000, 10
#: Groups of draws of each cell in a step: of one draw each, or one group of several.
GROUPS = 4
#: What goes with the importance-weighted estimator.
OF_IMPORTANCE = {
    "likelihood": "poisson",
    "posterior": "fullrank",
    "prior": "none",
    "n_components": 1,
    "amortized": False,
}


@dataclass(frozen=True)
class NewtonOptions:
    """How Gaussian posteriors are fitted: arguments of `PLNPCA.train`."""

    max_epochs: int
    tol: float
    block_size: int | None
    seed: int
    n_threads: int | None


@dataclass(frozen=True)
class GradientOptions:
    """How a flow or an encoder is trained: arguments of `PLNPCA.train`, with their defaults filled in."""

    n_steps: int
    n_samples: int
    n_importance_samples: int
    learning_rate: float
    reestimate: bool
    two_step: bool
    batch_size: int
    seed: int

    @classmethod
    def of(
        cls,
        n_cells: int,
        *,
        n_steps: int | None,
        n_samples: int | None,
        n_importance_samples: int,
        batch_size: int,
        learning_rate: float,
        reestimate: bool,
        two_step: bool,
        seed: int,
    ) -> GradientOptions:
        """Options for so many cells."""
        return cls(
            n_steps=n_steps or max(STEPS, -(-EPOCHS * n_cells // batch_size)),
            n_samples=n_samples or (GROUPS if n_importance_samples == 1 else 1),
            n_importance_samples=n_importance_samples,
            learning_rate=learning_rate,
            reestimate=reestimate,
            two_step=two_step,
            batch_size=batch_size,
            seed=seed,
        )


@dataclass
class Outcome:
    """How the stages of a training ended: what they were told, and what they say."""

    converged: bool
    reason: str
    options: dict[str, Any]
    history: dict[str, list[float]]
    failure: NotFiniteError | None = None

    def add_stochastic(self, ascent: Ascent, failure: NotFiniteError | None, options: GradientOptions) -> None:
        """Add stochastic training to the stages."""
        self.converged &= not (ascent.interrupted or ascent.failed)
        self.reason = f"{self.reason}; {ascent.reason}"
        self.options |= asdict(options)
        self.history |= {"stochastic_bound": ascent.bound, "stochastic_seconds": ascent.seconds}
        self.failure = failure


def check_inference(inference: InferenceName, *, is_plain: bool, **choices: object) -> None:
    """Refuse what the importance-weighted bound is not maximised for; `is_plain` is whether data are one table with size factors alone."""
    if inference == "variational":
        return
    if not is_plain:
        msg = (
            "inference='importance' is for one table of counts with size factors, and these data have modalities, an offset_key or a mask_key. "
            "Leave it out."
        )
        raise ValueError(msg)
    for name, needed in OF_IMPORTANCE.items():
        if choices[name] != needed:
            msg = f"inference='importance' is for {name}={needed!r}, and this is {choices[name]!r}. Pass {name}={needed!r}, or leave inference= out."
            raise ValueError(msg)


def check_parts(has_flow: bool, amortized: bool, *, encoder_hidden: object, **of_flow: object) -> None:
    """Refuse arguments of a flow or an encoder that the model does not have."""
    check_belongs(has_flow, "posterior='flow'", **of_flow)
    check_belongs(amortized, "amortized=True", encoder_hidden=encoder_hidden)
