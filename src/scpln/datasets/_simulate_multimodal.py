"""Counts of several modalities drawn from the joint PLN-PCA model, with everything that they were drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
from anndata import AnnData

from ._simulate import (
    SimulatedCells,
    draw_counts,
    identified_loadings,
    intercept_for_density,
    levels_of,
    names_of,
    validate,
)

if TYPE_CHECKING:
    from mudata import MuData

LikelihoodName = Literal["poisson", "nb", "bernoulli"]


def simulate_multimodal(
    n_obs: int = 1000,
    modalities: Mapping[str, int] | None = None,
    *,
    likelihood: LikelihoodName | Mapping[str, LikelihoodName] = "poisson",
    missing: Mapping[str, float] | None = None,
    n_latent: int = 5,
    n_batches: int = 1,
    density: float | Mapping[str, float] = 0.3,
    latent_variance: float = 1.0,
    gene_sd: float = 1.0,
    batch_sd: float = 0.5,
    size_factor_sd: float = 0.3,
    inverse_dispersion: float = 5.0,
    seed: int = 0,
) -> MuData:
    """Draw counts of several modalities that share each cell's latent state, and keep the truth beside them.

    For cell i and gene j of modality m, with x_i an intercept and the indicators of every batch but the first,

        z_i ~ N(0, I_q)        η_ij = o_im + x_i·B_j + z_i·C_j        y_ij ~ p_m(exp η_ij)

    The loadings C of all modalities together are in the identified rotation (see `simulate`).

    Parameters
    ----------
    n_obs
        Cells n.
    modalities
        Names of the modalities, and the number of genes of each; by default ``{"rna": 400, "prot": 20}``.
    likelihood
        Likelihood, or one for each modality: ``"poisson"``; ``"nb"``, negative binomial; ``"bernoulli"``, whether a
        Poisson count is not zero. Modalities that are not named are Poisson.
    missing
        Share of the cells, chosen at random, that lack a modality. No cell lacks two, so that they add up to at most 1.
    n_latent, n_batches, latent_variance, gene_sd, batch_sd, size_factor_sd
        As in `simulate`; size factors are drawn for each modality.
    density
        Expected share of non-zero counts, or one for each modality; before the noise of negative binomial counts.
    inverse_dispersion
        θ of negative binomial counts, whose variance is μ + μ²/θ.
    seed
        Same seed, same counts.

    Returns
    -------
    MuData with counts (CSR, int32) in the ``X`` of each modality, and the truth in

    ``obs["batch"]``, ``obsm["true_latent"]``
        Batch, and z (n × q).
    ``mod[…].obs["size_factor"]``
        exp(o_im), whose geometric mean over all cells is 1.
    ``mod[…].varm["true_loadings"]``, ``mod[…].varm["true_coefficients"]``
        C (p × q), and B (p × d) as a data frame.
    ``uns["simulation"]``
        The arguments.

    Examples
    --------
    >>> import scpln
    >>> mdata = scpln.datasets.simulate_multimodal(
    ...     200, {"rna": 60, "prot": 10}, likelihood={"prot": "nb"}, missing={"prot": 0.25}
    ... )
    >>> {name: adata.shape for name, adata in mdata.mod.items()}
    {'rna': (200, 60), 'prot': (150, 10)}
    """
    arguments = {**locals(), "modalities": dict(modalities or {"rna": 400, "prot": 20})}
    import mudata

    sizes = arguments["modalities"]
    likelihoods, densities, shares = (
        _of_each(sizes, name, value, default)
        for name, value, default in (
            ("likelihood", likelihood, "poisson"),
            ("density", density, 0.3),
            ("missing", missing or {}, 0.0),
        )
    )
    _validate(arguments, likelihoods, densities, shares)
    gene_seed, cell_seed, count_seed = np.random.SeedSequence(seed).spawn(3)

    genes = np.random.default_rng(gene_seed)
    all_loadings = identified_loadings(genes, sum(sizes.values()), n_latent, latent_variance)
    cells = np.random.default_rng(cell_seed)
    batch = cells.permutation(np.arange(n_obs) % n_batches)
    latent = cells.standard_normal((n_obs, n_latent))
    lacking = _lacking(cells, n_obs, shares)

    columns = ["(Intercept)", *(f"batch[T.{b}]" for b in range(1, n_batches))]
    ends = np.cumsum(list(sizes.values()))
    parts = {}
    for (name, p), end, stream in zip(sizes.items(), ends, count_seed.spawn(len(sizes)), strict=True):
        loadings = all_loadings[end - p : end]
        coefficients = np.column_stack([genes.normal(0.0, gene_sd, p), genes.normal(0.0, batch_sd, (p, n_batches - 1))])
        variance = np.square(loadings).sum(1) + size_factor_sd**2
        coefficients[:, 0] += intercept_for_density(levels_of(coefficients), variance, densities[name])
        offsets = cells.normal(0.0, size_factor_sd, n_obs)
        offsets -= offsets.mean()
        theta = np.full(p, inverse_dispersion) if likelihoods[name] == "nb" else None
        counts = draw_counts(SimulatedCells(offsets, batch, latent), coefficients, loadings, stream, theta)
        if likelihoods[name] == "bernoulli":
            counts.data[:] = 1
        adata = AnnData(
            X=counts,
            obs=pd.DataFrame({"size_factor": np.exp(offsets)}, index=names_of("cell", n_obs)),
            var=pd.DataFrame(index=names_of(name, p)),
        )
        adata.varm["true_loadings"] = loadings
        adata.varm["true_coefficients"] = pd.DataFrame(coefficients, index=adata.var_names, columns=columns)
        parts[name] = adata[~lacking[name]].copy()

    with mudata.set_options(pull_on_update=False):
        mdata = mudata.MuData(parts)
    order = pd.Index(names_of("cell", n_obs)).get_indexer(mdata.obs_names)
    mdata.obs["batch"] = pd.Categorical(batch[order].astype(str))
    mdata.obsm["true_latent"] = latent[order]
    mdata.uns["simulation"] = {name: value for name, value in arguments.items() if value is not None}
    return mdata


def _of_each(sizes: Mapping[str, int], argument: str, value: Any, default: Any) -> dict[str, Any]:
    """Values of all modalities, from one or from a mapping of some."""
    if not isinstance(value, Mapping):
        return dict.fromkeys(sizes, value)
    unknown = [name for name in value if name not in sizes]
    if unknown:
        msg = f"`{argument}` names {unknown}, but the modalities are {list(sizes)}."
        raise ValueError(msg)
    return {name: value.get(name, default) for name in sizes}


def _validate(
    arguments: dict[str, Any],
    likelihoods: Mapping[str, str],
    densities: Mapping[str, float],
    shares: Mapping[str, float],
) -> None:
    sizes = arguments["modalities"]
    wrong = {name: kind for name, kind in likelihoods.items() if kind not in get_args(LikelihoodName)}
    if wrong:
        msg = f"`likelihood` of {wrong} must be one of {list(get_args(LikelihoodName))}."
        raise ValueError(msg)
    if any(not isinstance(size, int | np.integer) or size < 1 for size in sizes.values()):
        msg = f"`modalities` must have one gene or more each, but is {sizes}."
        raise ValueError(msg)
    for name in sizes:
        validate({**arguments, "n_vars": sum(sizes.values()), "density": densities[name]})
    if min(shares.values()) < 0 or max(shares.values()) >= 1 or sum(shares.values()) > 1:
        msg = f"`missing` has shares of cells below 1 that add up to at most 1, since each has a modality, but is {shares}."
        raise ValueError(msg)
    if not arguments["inverse_dispersion"] > 0:
        msg = f"`inverse_dispersion` must be greater than 0, but is {arguments['inverse_dispersion']}."
        raise ValueError(msg)


def _lacking(rng: np.random.Generator, n_obs: int, shares: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Which cells lack each modality: disjoint sets."""
    ends = np.rint(np.cumsum([0.0, *shares.values()]) * n_obs).astype(int)
    rank = rng.permutation(n_obs)
    return {name: (rank >= ends[m]) & (rank < ends[m + 1]) for m, name in enumerate(shares)}
