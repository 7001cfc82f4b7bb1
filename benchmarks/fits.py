"""Run one fit in a fresh process, and judge what it wrote with the independent bound."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from bound import bound_per_cell
from data import N_LATENT, CountSet

HERE = Path(__file__).parent
POSTERIORS = ("fullrank", "meanfield")
PEER = "pyPLNmodels"


@dataclass(frozen=True)
class Fit:
    """A finished fit: `method` is a posterior of scpln or the peer; `bound` is recomputed, nats per cell."""

    set_name: str
    method: str
    seed: int
    bound: float
    seconds: float
    cpu_seconds: float
    peak_mb: float
    peak_above_data_mb: float
    first_call_seconds: float
    n_iter: int
    own_bound: float
    converged: bool | None = None
    reason: str = ""
    history: dict[str, list[float]] = field(default_factory=dict, repr=False)
    versions: dict[str, str] = field(default_factory=dict, repr=False)

    def iterations_to(self, bound: float) -> int | None:
        """How many iterations the fit's own history needed to reach `bound`."""
        reached = np.flatnonzero(np.asarray(self.history["elbo"]) >= bound)
        return int(reached[0]) + 1 if len(reached) else None


@dataclass(frozen=True)
class Runner:
    """Starts fits with the same thread count for every method, one at a time."""

    python: Path
    peer_python: Path | None
    scratch: Path
    threads: int

    def run(
        self,
        method: str,
        set_name: str,
        path: Path,
        *,
        seed: int,
        max_iter: int | None = None,
        tol: float | None = None,
    ) -> Fit:
        """Fit `method` to the data set at `path` in a fresh process."""
        out = self.scratch / f"{set_name}.{method}.npz"
        out.parent.mkdir(parents=True, exist_ok=True)
        self._start(self._command(method, path, out, seed, max_iter, tol))
        facts: dict[str, Any] = json.loads(out.with_suffix(".json").read_text())
        return Fit(set_name=set_name, method=method, seed=seed, bound=recomputed_bound(path, out), **facts)

    def _command(
        self, method: str, path: Path, out: Path, seed: int, max_iter: int | None, tol: float | None
    ) -> list[str]:
        if method == PEER:
            command = [str(self.peer_python), str(HERE / "fit_peer.py"), str(path), str(out)]
        else:
            command = [str(self.python), str(HERE / "fit_scpln.py"), str(path), str(out), "--posterior", method]
        command += ["--n-latent", str(N_LATENT), "--threads", str(self.threads), "--seed", str(seed)]
        command += [] if tol is None else ["--tol", repr(tol)]
        return command + ([] if max_iter is None else ["--max-iter", str(max_iter)])

    def _start(self, command: list[str]) -> None:
        limits = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
        environment = os.environ | dict.fromkeys(limits, str(self.threads))
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            msg = f"{' '.join(command)} ended with status {done.returncode}:\n{done.stderr[-3000:]}"
            raise RuntimeError(msg)


def recomputed_bound(data: Path, fitted: Path) -> float:
    """Mean over cells of the independent bound, from the data set's and the fit's `.npz`."""
    counts = CountSet.load(data)
    with np.load(fitted) as f:
        parameters = [f[key] for key in ("coefficients", "loadings", "mean", "variance")]
    return float(bound_per_cell(counts.counts, counts.offsets, counts.design, *parameters).mean())
