"""Labels of a reference, given to the cells of a query: set up, train, calibrate and annotate in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scpln.utils import storable_name

if TYPE_CHECKING:
    from anndata import AnnData

    from scpln.model import LabelClassifier


def label_transfer(
    ref: AnnData,
    query: AnnData,
    labels_key: str,
    *,
    use_rep: str | None = "X_plnpca",
    layer: str | None = None,
    cv_key: str | None = None,
    target_error: float | None = 0.05,
    latent_model: Any = None,
    unlabeled_category: str | None = None,
    key_added: str = "label",
    **more: Any,
) -> LabelClassifier:
    """Give the cells of a query the labels of a reference, with calibrated probabilities, or none where a label is not sure enough.

    Both need the same embedding, such as that of a :class:`scpln.model.PLNPCA` of the reference onto which the query was mapped; or counts of the same genes.

    Parameters
    ----------
    ref
        Cells with labels; those without (missing) have no part.
    query
        Cells to be labelled, which get the results.
    labels_key
        Column of ``ref.obs`` with labels.
    use_rep
        Entry of ``obsm`` of both; None to predict from counts.
    layer
        Layer with counts, without `use_rep`. By default ``X``.
    cv_key
        Column of ``ref.obs`` with donors or batches: those that calibrate are held out as a whole. Name it if cells of the query are of others.
    target_error
        Share of errors among cells that get a label; the others get none (NaN). None: all get one.
    latent_model
        Model that made the embedding: probabilities are then averaged over draws of each cell's latent state as well. `use_rep` must hold its posterior means, such as
        ``"plnpca_state"`` of PLN-PCA.
    unlabeled_category
        Label of cells without one, such as ``"Unknown"``.
    key_added
        Start of the names of the results.
    **more
        Of :class:`scpln.model.LabelClassifier` and its ``train``: ``covariance``, ``prior_scale``; ``max_epochs``, ``seed``, ``progress``, …

    Returns
    -------
    The model. Sets in the query, with ``key_added="label"``,

    ``obs["label_prediction"]``
        Label, NaN where it is not sure enough.
    ``obs["label_probability"]``, ``obsm["label_probs"]``
        Probability of the most probable label, and of all (n × C), whose names are ``uns["label"]["labels"]``.
    ``obs["label_entropy"]``, ``obs["label_expected_entropy"]``, ``obs["label_mutual_information"]``
        Uncertainty of the label, nats, and its parts: aleatoric, and epistemic.
    ``obs["label_novelty"]``
        Share of the reference's cells that are nearer to the mean of a label: above 1 for cells farther than all.
    ``uns["label"]``
        What was fitted, and ``training``, with the temperature, scores and tables of ``calibration``, which :func:`scpln.pl.reliability` and :func:`scpln.pl.risk_coverage` draw.

    Raises
    ------
    ValueError
        A column or an embedding lacks, labels are of one kind, or nothing can be held out.

    Examples
    --------
    >>> import numpy as np, scpln
    >>> adata = scpln.datasets.simulate(n_obs=400, n_vars=20, n_latent=2)
    >>> adata.obs["side"] = np.where(adata.obsm["true_latent"][:, 0] > 0, "right", "left")
    >>> ref, query = adata[:300].copy(), adata[300:].copy()
    >>> model = scpln.tl.label_transfer(ref, query, "side", use_rep=None, progress=False)
    >>> query.obs["label_prediction"].cat.categories.to_list()
    ['left', 'right']
    """
    from scpln.model import LabelClassifier, setup_anndata
    from scpln.tl._fit import split

    key = storable_name("key_added", key_added)
    registration: dict[str, Any] = {"layer": layer, "labels_key": labels_key, "unlabeled_category": unlabeled_category}
    steps = split(LabelClassifier, ref, {"use_rep": use_rep, **more})
    setup_anndata(ref, is_count_data=use_rep is None, **registration, **steps.registration)
    model = LabelClassifier(ref, **steps.parameters)
    of_latent = latent_model is not None
    model.train(**{**steps.training, "calibrate": not of_latent, "cv_key": cv_key, "target_error": target_error})
    if of_latent:
        posterior = latent_model.get_posterior(ref)
        model.calibrate(cv_key=cv_key, target_error=target_error, posterior=posterior, seed=steps.training.get("seed"))
    model.annotate(query, key_added=key, posterior=latent_model.get_posterior(query) if of_latent else None)
    return model
