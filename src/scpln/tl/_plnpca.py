"""PLN-PCA as one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ._fit import fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


def plnpca(
    adata: AnnData,
    *,
    n_latent: int = 10,
    layer: str | None = None,
    batch_key: str | None = None,
    size_factor_key: str | None = None,
    categorical_covariate_keys: Sequence[str] | None = None,
    continuous_covariate_keys: Sequence[str] | None = None,
    posterior: Literal["fullrank", "meanfield", "flow"] = "fullrank",
    likelihood: str = "poisson",
    amortized: bool = False,
    flow: str | None = None,
    is_count_data: bool = True,
    key_added: str = "plnpca",
    copy: bool = False,
    **training: Any,
) -> AnnData | None:
    """Poisson log-normal PCA: set up, train and annotate in one call.

    The same as :func:`scpln.model.setup_anndata`, :class:`scpln.model.PLNPCA`, its ``train`` and its ``annotate``; use
    those to keep the fitted model, for instance to save it or to place new cells.

    Parameters
    ----------
    adata
        Cells by genes, with raw counts (or other values, see `is_count_data`) in `layer`.
    n_latent
        Latent dimensions q.
    layer
        Layer that holds the counts or other values; by default ``adata.X`` does.
    batch_key
        Column of ``obs`` with each cell's batch, whose effect on every gene is taken out of the latent state.
    size_factor_key
        Column of ``obs`` with size factors on the natural scale, for instance total counts over all genes where `adata`
        holds some of them only. By default, the totals of the counts given, and none for values that are not counts.
    categorical_covariate_keys, continuous_covariate_keys
        Further columns of ``obs`` whose effects are taken out.
    posterior
        Family of each cell's posterior: a Gaussian with any covariance (``"fullrank"``) or a diagonal one
        (``"meanfield"``), or a normalizing flow on top of the former (``"flow"``).
    likelihood
        Distribution of the counts: ``"poisson"``, ``"nb"``, ``"zip"``, ``"zinb"`` or ``"bernoulli"``; or ``"gaussian"``,
        for other values.
    amortized
        Whether an encoder gives the posteriors from the counts, in place of an optimum for each cell.
    flow
        Kind of flow, for ``posterior="flow"``; by default ``"sylvester"``.
    is_count_data
        Whether `layer` holds raw counts; False for real values such as log-normalised expression, with
        ``likelihood="gaussian"``.
    key_added
        Name under which results are stored.
    copy
        Leave `adata` alone and return an annotated copy.
    **training
        Passed to :meth:`scpln.model.PLNPCA.train`: ``max_epochs``, ``n_steps``, ``n_importance_samples``, ``seed``,
        ``n_threads``, ``progress``, …

    Returns
    -------
    None, or the annotated copy. Either is annotated with

    ``obsm["X_{key_added}"]``
        Latent states: posterior means (n × q), components ordered by the variance that they explain.
    ``varm["{key_added}_loadings"]``
        Loadings (p × q).
    ``obs["{key_added}_elbo"]``
        Each cell's contribution to the bound, nats.
    ``obs["{key_added}_iw_bound"]``, ``…_gap``, ``…_ess``, ``…_pareto_k``
        How close its posterior is to the exact one, if that is quick to say: see
        :meth:`scpln.model.PLNPCA.get_posterior_diagnostics`.
    ``uns["{key_added}"]``
        What was fitted and how: parameters, bound per cell, history, keys used.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.pbmc68k_reduced()
    >>> scpln.tl.plnpca(adata, layer="counts", size_factor_key="n_counts", n_latent=5, progress=False)
    >>> adata.obsm["X_plnpca"].shape
    (700, 5)
    """
    from scpln.model import PLNPCA

    adata = adata.copy() if copy else adata
    registration = {
        "layer": layer,
        "batch_key": batch_key,
        "size_factor_key": size_factor_key,
        "categorical_covariate_keys": categorical_covariate_keys,
        "continuous_covariate_keys": continuous_covariate_keys,
        "is_count_data": is_count_data,
    }
    parameters = {
        "n_latent": n_latent,
        "posterior": posterior,
        "likelihood": likelihood,
        "amortized": amortized,
        "flow": flow,
    }
    fit(PLNPCA, adata, registration=registration, parameters=parameters, training=training, key_added=key_added)
    return adata if copy else None
