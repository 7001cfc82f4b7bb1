"""The clustering count autoencoder as one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ._fit import fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


def count_gmvae(
    adata: AnnData,
    *,
    n_components: int | None = None,
    n_latent: int = 10,
    layer: str | None = None,
    batch_key: str | None = None,
    labels_key: str | None = None,
    size_factor_key: str | None = None,
    categorical_covariate_keys: Sequence[str] | None = None,
    continuous_covariate_keys: Sequence[str] | None = None,
    covariance: Literal["full", "diagonal"] = "full",
    component_posteriors: bool = False,
    n_hidden: int = 128,
    n_layers: int = 1,
    likelihood: str = "nb",
    k_max: int | None = None,
    dispersion: Literal["gene", "gene-batch", "gene-cell"] = "gene",
    scale_activation: Literal["exp", "softmax"] = "exp",
    posterior: Literal["fullrank", "meanfield", "flow"] = "fullrank",
    flow: str | None = None,
    size_factors: bool = True,
    is_count_data: bool = True,
    key_added: str = "countgmvae",
    copy: bool = False,
    **training: Any,
) -> AnnData | None:
    """Gaussian-mixture variational autoencoder of counts, which clusters cells: set up, train and annotate in one call.

    The same as :func:`scpln.model.setup_anndata`, :class:`scpln.model.CountGMVAE`, its ``train`` and its ``annotate``; use
    those to keep the fitted model, for instance to save it or to place new cells, and for its further choices.

    Parameters
    ----------
    adata
        Cells by genes, with raw counts (or other values, see `is_count_data`) in `layer`.
    n_components
        Components K of the mixture, at least the number of labels. None lets a held-out bound choose; with labels, as
        many as these.
    n_latent
        Latent dimensions q.
    layer
        Layer that holds the counts or other values; by default ``adata.X`` does.
    batch_key
        Column of ``obs`` with each cell's batch, whose effect on every gene is taken out of the latent state.
    labels_key
        Column of ``obs`` with known labels of some cells, missing for the others. Each label then has a component of its
        own, in which the cells that have it are trained.
    size_factor_key
        Column of ``obs`` with size factors on the natural scale, for instance total counts over all genes where `adata`
        holds some of them only. By default, the totals of the counts given, and none for values that are not counts.
    categorical_covariate_keys, continuous_covariate_keys
        Further columns of ``obs`` whose effects are taken out.
    covariance
        Whether components have full or diagonal covariances.
    component_posteriors
        Whether the posterior of the latent state is another one for each component. It takes K times as long.
    n_hidden, n_layers
        Width and number of the hidden layers of encoder and decoder. 0 layers make the decoder linear.
    likelihood
        Distribution of the counts: ``"nb"``, ``"poisson"``, ``"zip"``, ``"zinb"`` or ``"bernoulli"``; or
        ``"gaussian"``, for other values.
    k_max
        Give counts below `k_max` probabilities of their own: a piecewise-categorical likelihood.
    dispersion
        Whether parameters of the likelihood besides the rate are those of a gene (``"gene"``), of a gene in a batch
        (``"gene-batch"``), or of a gene in a cell (``"gene-cell"``).
    scale_activation
        Whether each gene has a rate of its own (``"exp"``), or rates are shares of the size factor's total
        (``"softmax"``).
    posterior
        Family of each cell's posterior: a Gaussian with any covariance (``"fullrank"``) or a diagonal one
        (``"meanfield"``), or a normalizing flow on top of the former (``"flow"``).
    flow
        Kind of flow, for ``posterior="flow"``; by default ``"sylvester"``.
    size_factors
        Whether the model is given the size factors, or has to explain them. Bounds with and without cannot be compared.
    is_count_data
        Whether `layer` holds raw counts; False for real values such as log-normalised expression, with
        ``likelihood="gaussian"``.
    key_added
        Name under which results are stored.
    copy
        Leave `adata` alone and return an annotated copy.
    **training
        Passed to :meth:`scpln.model.CountGMVAE.train`: ``max_epochs``, ``batch_size``, ``learning_rate``,
        ``early_stopping``, ``accelerator``, ``checkpoint_dir``, ``seed``, ``n_threads``, ``progress``, …

    Returns
    -------
    None, or the annotated copy. Either is annotated with

    ``obsm["X_{key_added}"]``
        Latent states: posterior means (n × q).
    ``obs["{key_added}_cluster"]``, ``obsm["{key_added}_cluster_probs"]``
        Most probable component of each cell (its label, where components stand for labels), and the probabilities of all
        of them (n × K).
    ``obs["{key_added}_elbo"]``
        Each cell's contribution to the bound, nats.
    ``obs["{key_added}_iw_bound"]``, ``…_gap``, ``…_ess``, ``…_pareto_k``
        How close its posterior is to the exact one, if that is quick to say: see
        :meth:`scpln.model.CountGMVAE.get_posterior_diagnostics`.
    ``varm["{key_added}_loadings"]``
        Loadings (p × q), with ``n_layers=0``.
    ``var["{key_added}_inverse_dispersion"]``, ``var["{key_added}_zero_inflation"]``
        Parameters that the likelihood has by gene.
    ``uns["{key_added}"]``
        What was fitted and how: parameters, bound per cell, history, keys used, and the components' weights, means
        and covariances.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.simulate(n_obs=200, n_vars=30, n_latent=2)
    >>> scpln.tl.count_gmvae(adata, n_components=3, n_latent=2, n_hidden=16, max_epochs=5, progress=False)
    >>> adata.obsm["X_countgmvae"].shape, adata.obsm["countgmvae_cluster_probs"].shape
    ((200, 2), (200, 3))
    >>> list(adata.obs["countgmvae_cluster"].cat.categories)
    ['0', '1', '2']
    """
    from scpln.model import CountGMVAE

    adata = adata.copy() if copy else adata
    registration = {
        "layer": layer,
        "batch_key": batch_key,
        "labels_key": labels_key,
        "size_factor_key": size_factor_key,
        "categorical_covariate_keys": categorical_covariate_keys,
        "continuous_covariate_keys": continuous_covariate_keys,
        "is_count_data": is_count_data,
    }
    parameters = {
        "n_components": n_components,
        "n_latent": n_latent,
        "covariance": covariance,
        "component_posteriors": component_posteriors,
        "n_hidden": n_hidden,
        "n_layers": n_layers,
        "likelihood": likelihood,
        "k_max": k_max,
        "dispersion": dispersion,
        "scale_activation": scale_activation,
        "posterior": posterior,
        "flow": flow,
        "size_factors": size_factors,
    }
    fit(CountGMVAE, adata, registration=registration, parameters=parameters, training=training, key_added=key_added)
    return adata if copy else None
