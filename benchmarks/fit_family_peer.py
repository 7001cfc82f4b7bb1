"""One fit of a model of pyPLNmodels in a fresh process, run with the interpreter of the peer's own environment."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from family_bound import Fit, Ranks
from gene_space_sets import GeneSpaceSet
from measure import measured


def main() -> None:
    """Fit with the peer's defaults, then write what the judge reads, and the cost beside it."""
    import pyPLNmodels as peer

    path, out, options, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    given = json.loads(options)
    data = GeneSpaceSet.load(Path(path))
    constructors = {
        "network": lambda y, o, x: peer.PlnNetwork(y, offsets=o, penalty=given["penalty"]),
        "mixture": lambda y, o, x: peer.PlnMixture(y, offsets=o, n_cluster=given["n"]),
        "lda": lambda y, o, x: peer.PlnLDA(y, offsets=o, clusters=x),
        "zip": lambda y, o, x: peer.ZIPln(y, offsets=o),
        "ranks": lambda y, o, x: peer.PlnPCACollection(y, offsets=o, ranks=given["ranks"]),
        "ar": lambda y, o, x: peer.PlnAR(y, offsets=o, ar_type="spherical"),
    }

    def fit(counts: np.ndarray, offsets: np.ndarray, groups: np.ndarray):
        torch.manual_seed(0)
        return constructors[given["kind"]](counts, offsets, groups).fit()

    groups = np.array(given.get("groups", np.zeros(len(data.counts))), dtype=int)
    one_hot = np.eye(groups.max() + 1)[groups]
    small = np.random.default_rng(0).poisson(3.0, (40, 15)).astype(float)
    fit(small, np.zeros(small.shape), np.eye(2)[np.arange(40) % 2])
    model, cost = measured(lambda: fit(data.counts, data.offsets, one_hot))
    found = _found(model, given)
    found.save(Path(out))
    Path(out).with_suffix(".json").write_text(json.dumps(cost))


def _found(model: object, given: dict) -> Fit | Ranks:
    def array(value: torch.Tensor) -> np.ndarray:
        return value.detach().cpu().numpy().astype(float)

    if given["kind"] == "ranks":
        return Ranks(
            {
                rank: {
                    "coefficients": array(model[rank].coef).T,
                    "loadings": array(model[rank].components),
                    "mean": array(model[rank].latent_mean),
                    "variance": array(model[rank].latent_variance),
                }
                for rank in given["ranks"]
            }
        )
    if given["kind"] == "mixture":
        omega = np.stack([np.diag(1 / each) for each in array(model._covariances)])
        means, spreads = array(model._latent_means), array(model._latent_sqrt_variances) ** 2
        prior = np.broadcast_to(array(model._cluster_bias)[:, None], means.shape)
        return Fit(means, spreads, False, prior, omega, array(model._weights))
    mean, spread = array(model._latent_mean), array(model._latent_sqrt_variance) ** 2
    name = "_full_marginal_mean" if given["kind"] == "lda" else "_marginal_mean"
    prior = np.broadcast_to(array(getattr(model, name)), mean.shape)
    given_omega = given["kind"] in ("network", "ar")
    omega = array(model._precision) if given_omega else np.linalg.inv(array(model._covariance))
    more = {}
    if given["kind"] == "network":
        more["penalty"] = given["penalty"]
    if given["kind"] == "zip":
        more["logit"] = np.broadcast_to(array(model._marginal_mean_inflation), mean.shape)
    if given["kind"] == "ar":
        more["phi"] = float(array(model.ar_coef).ravel()[0])
    return Fit(mean[None], spread[None], False, prior[None], omega[None], np.ones(1), **more)


if __name__ == "__main__":
    main()
