"""One fit of a model in gene space of scpln in a fresh process."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from family_bound import Fit, Ranks
from gene_space_sets import GeneSpaceSet
from measure import measured

#: Covariances of the components of the mixture, as the peer's.
MIXTURE = "diagonal"


def main() -> None:
    """Fit once to little, which loads what is loaded late, then to the data; write what the judge reads, and the cost beside it."""
    path, out, options, threads = sys.argv[1:]
    given = json.loads(options)
    data = GeneSpaceSet.load(Path(path))
    groups = np.array(given.get("groups", np.zeros(len(data.counts))), dtype=int)

    def fit(counts: np.ndarray, offsets: np.ndarray, groups: np.ndarray) -> tuple[Any, np.ndarray]:
        design = np.eye(groups.max() + 1)[groups]
        design[:, 0] = 1
        return _fit(given, counts, offsets, design, int(threads)), design

    small = np.random.default_rng(0).poisson(3.0, (40, 15)).astype(float)
    fit(small, np.zeros(small.shape), np.arange(40) % 2)
    (result, design), cost = measured(lambda: fit(data.counts, data.offsets, groups))
    _found(result, given, design, data.offsets).save(Path(out))
    Path(out).with_suffix(".json").write_text(json.dumps({**cost, "path": _history(result, cost, len(data.counts))}))


def _history(result: Any, cost: Any, n: int) -> list[list[float]]:
    """Processor seconds and bounds, in nats in all, of each iteration; of a path of ranks, nothing."""
    if isinstance(result, list):
        return []
    scale, history = cost["cpu_seconds"] / cost["seconds"], result.history
    return [[at * scale, value * n] for at, value in zip(history["seconds"], history["objective"], strict=True)]


def _fit(given: dict[str, Any], counts: np.ndarray, offsets: np.ndarray, design: np.ndarray, threads: int) -> Any:
    from scpln.inference import CountData, Entries, fit_pln
    from scpln.inference.genespace.mixture import fit_pln_mixture
    from scpln.inference.genespace.network import fit_network
    from scpln.inference.genespace.series import Order, fit_pln_series
    from scpln.inference.ranks import rank_path
    from scpln.module.covariances import COVARIANCES, Full
    from scpln.module.likelihoods import LIKELIHOODS

    n, p = counts.shape
    if given["kind"] == "ranks":
        data = CountData(sp.csr_matrix(counts), offsets[:, 0], design)
        return rank_path(
            data, given["ranks"], lambda: LIKELIHOODS["poisson"](p), posterior=given["posterior"], n_threads=threads
        )
    data = CountData(counts, np.zeros(n), design, entries=Entries(offsets))
    more = {"prior_precision": 0.0, "n_threads": threads}
    posterior = {"posterior": given["posterior"]}
    if given["kind"] == "network":
        return fit_network(data, given["penalty"] / n, **posterior, **more)
    if given["kind"] == "mixture":
        return fit_pln_mixture(data, COVARIANCES[MIXTURE](p), given["n"], **posterior, **more)
    if given["kind"] == "ar":
        return fit_pln_series(data, Order.of(np.zeros(n), np.arange(n)), Full(p), "scalar", **more)
    likelihood = LIKELIHOODS["zip"](p) if given["kind"] == "zip" else None
    return fit_pln(data, Full(p), likelihood=likelihood, **posterior, **more)


def _found(result: Any, given: dict[str, Any], design: np.ndarray, offsets: np.ndarray) -> Fit | Ranks:
    if given["kind"] == "ranks":
        names = {"coefficients": "coefficients", "loadings": "loadings", "mean": "mean", "variance": "covariance"}
        return Ranks({one.rank: {to: getattr(one.fit, name) for to, name in names.items()} for one in result})
    full = given["posterior"] == "fullrank"
    spread = "weight" if full else "variance"
    if given["kind"] == "mixture":
        parameters = result.parameters
        means = np.stack([part.mean for part in result.components])
        return Fit(
            means,
            np.stack([getattr(part, spread) for part in result.components]),
            full,
            np.broadcast_to(parameters.means[:, None], means.shape),
            np.stack([np.linalg.inv(covariance.dense) for covariance in parameters.covariances]),
            parameters.weights,
        )
    more: dict[str, Any] = {}
    if given["kind"] == "network":
        more["penalty"] = given["penalty"]
    if given["kind"] == "zip":
        more["logit"] = np.broadcast_to(result.likelihood.gate_logits.detach().numpy(), result.mean.shape)
    if given["kind"] == "ar":
        more["phi"] = float(result.process.phi[0])
        omega = np.linalg.inv(result.process.stationary)
        variance = np.diagonal(result.covariance, axis1=1, axis2=2)
        spreads = np.exp(offsets + result.mean + variance / 2)
    else:
        omega = np.linalg.inv(result.covariance.dense)
        spreads = getattr(result, spread)
    prior = design @ result.coefficients.T
    return Fit(result.mean[None], spreads[None], full, prior[None], omega[None], np.ones(1), **more)


if __name__ == "__main__":
    main()
