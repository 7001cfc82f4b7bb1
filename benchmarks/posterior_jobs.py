"""The fits that the posterior comparison is made of, in the order in which they are worth having."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from posterior_fits import EXACT, FLOWS, MEAN_FIELDS, Job
from posterior_regimes import N_CELLS, REAL, REGIMES, SWEEP_REGIME

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

#: Training with B and C fixed, of encoders, and where B and C are estimated again, with few or with many genes.
TRAINING = {"n_steps": 400, "n_samples": 2, "learning_rate": 1.2e-2}
ENCODER_TRAINING = {"n_steps": 500, "learning_rate": 6e-3}
BIAS_TRAINING = {"tol": 1e-6, "n_steps": 500, "learning_rate": 1e-2}
BIAS_TRAINING_LARGE = {"tol": 1e-6, "n_steps": 300, "learning_rate": 6e-3}
LARGE = 500
#: Tolerance of the Gaussian fits whose B and C are judged.
CONVERGED = {"tol": 1e-6}
#: Flows that take a pass for each dimension, or several times as long as others, are left out above this q.
SLOW_FLOWS, LARGEST_Q_FOR_SLOW = ("maf", "nsf"), 10
BIAS_METHODS = ("meanfield", "fullrank", EXACT, "iw8", "sylvester", "iaf")
SWEEP_METHODS = ("iaf", "sylvester")
SWEEPS: dict[str, tuple[Any, ...]] = {
    "n_samples": (1, 2, 4, 8, 16),
    "n_transforms": (1, 2, 3, 5),
    "n_steps": (250, 500, 1000, 2000, 4000),
    "learning_rate": (1.5e-3, 3e-3, 6e-3, 1.2e-2, 2.4e-2),
    "flow_hidden": ([32, 32], [64, 64], [128], [128, 128]),
}
#: The usual value of what is varied.
USUAL: dict[str, Any] = {**TRAINING, "n_transforms": 3, "flow_hidden": [64, 64]}
#: Flows that are Gaussian in one dimension.
SMALLEST_Q = {"iaf": 2, "maf": 2, "realnvp": 2}


def gap_jobs(args: argparse.Namespace) -> Iterator[Job]:
    """Every posterior at the B and C of the full-rank fit, Poisson."""
    for regime in args.regimes:
        absent = regime in REAL and (args.data is None or not (args.data / REAL[regime][0]).exists())
        if absent or (regime in REGIMES and (REGIMES[regime].likelihood != "poisson" or REGIMES[regime].n > N_CELLS)):
            continue
        q = q_of(regime)
        for method in (*MEAN_FIELDS, "fullrank"):
            yield Job("gap", regime, method)
        yield Job("gap", regime, "iw8", options=TRAINING | {"n_samples": 1})
        for flow in FLOWS:
            if SMALLEST_Q.get(flow, 1) <= q and (flow not in SLOW_FLOWS or q <= LARGEST_Q_FOR_SLOW):
                yield Job("gap", regime, flow, options=TRAINING)
        for method in ("amortized", "amortized sylvester"):
            yield Job("gap", regime, method, options=ENCODER_TRAINING)


def bias_jobs(args: argparse.Namespace) -> Iterator[Job]:
    """Estimates of B and C under each posterior, from data sets that share the truth."""
    for data_set in range(args.data_sets):
        for regime in args.regimes:
            if regime in REAL:
                continue
            for method in args.bias_methods:
                exact_unknown = method == EXACT and REGIMES[regime].likelihood != "poisson"
                too_small = method in FLOWS and SMALLEST_Q.get(method, 1) > q_of(regime)
                if not exact_unknown and not too_small:
                    yield Job("bias", regime, method, data_set, bias_options(regime, method))


def bias_options(regime: str, method: str) -> dict[str, Any]:
    """How a method is trained where B and C are estimated."""
    if method == EXACT:
        return {}
    if method in ("meanfield", "fullrank"):
        return CONVERGED
    return BIAS_TRAINING if REGIMES[regime].p < LARGE else BIAS_TRAINING_LARGE


def sweep_jobs(args: argparse.Namespace) -> Iterator[Job]:
    """One regime, one setting varied at a time."""
    if SWEEP_REGIME in args.regimes:
        for method in SWEEP_METHODS:
            for name, values in SWEEPS.items():
                for value in values:
                    yield Job("gap", SWEEP_REGIME, method, options=TRAINING | {name: value})


def q_of(regime: str) -> int:
    """Latent dimensions."""
    return REAL[regime][2] if regime in REAL else REGIMES[regime].q


PARTS = {"gap": gap_jobs, "bias": bias_jobs, "sweep": sweep_jobs}


def jobs(args: argparse.Namespace) -> Iterator[Job]:
    """Jobs of the chosen parts and methods."""
    for part in args.parts:
        for job in PARTS[part](args):
            if args.methods is None or job.method in args.methods:
                yield job
