"""A mixture of linear classifiers of annotated data, in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scpln.utils import positive_integer, resolve_seed, storable_name, warn

from ._inputs import read_covariates, read_groups, read_labels, read_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from scpln.inference.classifiers import ComponentsName, Covariance
    from scpln.model import MixtureClassifier
    from scpln.model.mixture_classifier import Criterion, Plane

    from ._cross_validation import HeldOut

#: Share of the entropy of labels from which on components are the labels.
_CONFOUNDED = 0.9
#: Groups below which intervals at 95 % hold less than 90 % of the truth (49 % with two, 85 % with four), in simulations.
_FEW_GROUPS = 10


def mixture_classifier(
    adata: AnnData,
    labels_key: str,
    *,
    use_rep: str | None = None,
    layer: str | None = None,
    components: ComponentsName | None = None,
    n_components: int | None = None,
    covariance: Covariance = "full",
    criterion: Criterion = "bic",
    covariate_keys: str | Sequence[str] | None = None,
    unlabeled_category: str | None = None,
    cv_key: str | None = None,
    n_folds: int = 5,
    key_added: str = "mixture",
    seed: int | None = None,
    **more: Any,
) -> MixtureClassifier:
    """Find hidden kinds of rows, in each of which a label depends on the data in its own way, and predict labels.

    Of an embedding of cells (``use_rep="X_plnpca"``), or of a table of counts, such as cell types by donor from :func:`scpln.tl.composition`.

    Parameters
    ----------
    adata
        Annotated data, which gets the results.
    labels_key
        Column of ``obs`` with labels; rows without one (missing) get predictions.
    use_rep
        Entry of ``obsm`` with an embedding, or with proportions.
    layer
        Layer with counts. By default ``X``, unless there is `use_rep`.
    components
        Family of the components: by default ``"gaussian"`` of `use_rep`, and ``"dirichlet_multinomial"`` of counts. Of counts, ``"gaussian"`` takes centred log-ratios of
        counts + 0.5, and ``"dirichlet"`` shares, which must have no zeros.
    n_components
        K; by default `criterion` chooses from 1 to 5.
    covariance
        Of Gaussian components: ``"full"``, ``"diagonal"``, ``"spherical"`` or ``"tied"``.
    criterion
        ``"bic"``, ``"icl"``, or ``"held_out"`` log p(y | x), where `cv_key` says what is held out together.
    covariate_keys
        Columns of ``obs`` that classifiers use besides, and components do not: numbers, or categories.
    unlabeled_category
        Label of rows without one, such as ``"Unknown"``.
    cv_key
        Column of ``obs`` with donors (or other groups). Predictions of rows with a label are then by models that have seen no row of their donor. Without it
        they are of the model that was fitted to these rows, and look better than they are.
    n_folds
        Parts that donors are divided into.
    key_added
        Start of the names of the results.
    seed
        Of starts and folds; by default ``scvi.settings.seed``, or 0.
    **more
        Of :class:`scpln.model.MixtureClassifier`: ``max_components``, ``n_init``, ``ridge``, ``prior_scale``, ``concentration_scale``, ``features``, ``max_iter``, ``tol``.

    Returns
    -------
    The model of all rows, for new ones. Sets, with ``key_added="mixture"``,

    ``obs["mixture_component"]``, ``obsm["mixture_component_probs"]``
        Component of each row, and probabilities of all (n × K), given its label too where it has one.
    ``obs["mixture_prediction"]``, ``obsm["mixture_probs"]``
        Predicted label, and probabilities of all (n × C); held out by donor if `cv_key` says so.
    ``obsm["mixture_plane"]``
        Place of each row in the plane of :func:`scpln.pl.mixture_classifier`.
    ``uns["mixture_classifier"]``
        ``weights`` and parameters of the components, ``coefficients`` with Wald errors, ``log_likelihood`` and its path, ``bic``, ``icl``, ``selection`` (criteria by K),
        ``mutual_information`` of components and labels and ``label_entropy``, ``cross_validation`` (scores with intervals by donor), ``classes``, ``params``, ``plane``.

    Raises
    ------
    ValueError, KeyError
        A column or matrix lacks, values are not what the components take, labels have one class, or nothing can be held out.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.simulate_mixture_classifier(
    ...     400, components="dirichlet_multinomial", standardize=True, seed=1
    ... )
    >>> model = scpln.tl.mixture_classifier(adata, "label", n_components=2, cv_key="donor")
    >>> adata.obsm["mixture_probs"].shape, adata.obs["mixture_component"].nunique()
    ((400, 2), 2)
    >>> adata.uns["mixture_classifier"]["cross_validation"]["accuracy"] > 0.7
    True
    """
    from scpln.model import MixtureClassifier
    from scpln.model.base import claim, forget
    from scpln.model.mixture_classifier import plane_of

    key, n_folds = storable_name("key_added", key_added), positive_integer("n_folds", n_folds, least=2)
    rows, family = read_rows(adata, use_rep, layer, components)
    labels = read_labels(adata, labels_key, unlabeled_category)
    covariates = read_covariates(adata, covariate_keys, labels_key)
    groups = None if cv_key is None else read_groups(adata, cv_key)
    model = MixtureClassifier(
        n_components,
        components=family,
        covariance=covariance,
        criterion=criterion,
        random_state=resolve_seed(seed),
        **more,
    )
    model.fit(rows, labels, covariates=covariates, groups=groups)
    _warn_of(model)
    held = None
    if groups is not None:
        from ._cross_validation import held_out

        held = held_out(model, rows, labels, covariates, groups, model.classes_, n_folds)
        if held.scores["n_groups"] < _FEW_GROUPS:
            warn(
                f"Scores are of {held.scores['n_groups']} held-out groups of {cv_key!r}. Intervals that draw so few are too narrow: take scores for a first look."
            )
    plane = plane_of(model, rows.to_numpy(), labels, covariates)
    predicted = model.predict_proba(rows, covariates)
    if held is not None:
        predicted = np.where(np.isnan(held.probabilities), predicted, held.probabilities)
    share = model.predict_component_proba(rows, labels, covariates)
    known = {"labels_key": labels_key, "use_rep": use_rep, "layer": layer, "cv_key": cv_key, "n_folds": n_folds}
    forget(adata, f"{key}_classifier")
    adata.uns[f"{key}_classifier"] = {
        **_results(model, held, plane, list(rows.columns)),
        "bic": model.bic(rows, labels, covariates=covariates),
        "icl": model.icl(rows, labels, covariates=covariates),
        "params": {name: value for name, value in {**model.get_params(), **known}.items() if value is not None},
    }
    claim(adata, f"{key}_classifier", _write(adata, key, model, predicted, share, plane))
    return model


def _warn_of(model: MixtureClassifier) -> None:
    """Say what coefficients do not mean."""
    if model.separated_.any():
        which = np.flatnonzero(model.separated_).tolist()
        warn(
            f"Classes are perfectly separated in components {which}: their coefficients and errors are what prior_scale={model.prior_scale} makes them. "
            "Pass fewer components, or more rows."
        )
    if model.n_components_ > 1 and model.mutual_information_ > _CONFOUNDED * model.label_entropy_:
        warn(
            f"Components are nearly the labels: I(z; y) is {model.mutual_information_:.2f} of {model.label_entropy_:.2f} nats. Coefficients within components say little; "
            "look at the components' own parameters."
        )


def _write(
    adata: AnnData,
    key: str,
    model: MixtureClassifier,
    predicted: NDArray[np.float64],
    share: NDArray[np.float64],
    plane: Plane | None,
) -> list[str]:
    """Results by row, and where they went."""
    names = [str(number) for number in range(model.n_components_)]
    obs = {
        f"{key}_component": pd.Categorical.from_codes(share.argmax(1), names),
        f"{key}_prediction": pd.Categorical.from_codes(predicted.argmax(1), model.classes_),
    }
    obsm = {f"{key}_component_probs": share, f"{key}_probs": predicted}
    obsm |= {} if plane is None else {f"{key}_plane": plane.coordinates}
    for name, column in obs.items():
        adata.obs[name] = column
    for name, array in obsm.items():
        adata.obsm[name] = array
    return [*(f"obs['{name}']" for name in obs), *(f"obsm['{name}']" for name in obsm)]


def _results(model: MixtureClassifier, held: HeldOut | None, plane: Plane | None, columns: list[str]) -> dict[str, Any]:
    """What is written of the model, as arrays, text and numbers."""
    table = model.get_coefficients().reset_index()
    found: dict[str, Any] = {
        "model": "MixtureClassifier",
        "classes": model.classes_.astype(object),
        "weights": model.weights_,
        "coefficients": table.astype({"component": str, "class": str}),
        "log_likelihood": model.log_likelihood_,
        "log_likelihood_path": model.log_likelihood_path_,
        "converged": model.converged_,
        "mutual_information": model.mutual_information_,
        "label_entropy": model.label_entropy_,
        "separated": model.separated_,
        "predictions": "of the model of all rows" if held is None else "held out by donor",
    }
    for name in ("means", "covariances", "concentrations"):
        if hasattr(model, f"{name}_"):
            found[name] = np.array(getattr(model, f"{name}_"))
    if model.selection_ is not None:
        found["selection"] = model.selection_.rename_axis("n_components").reset_index()
    if held is not None:
        found["cross_validation"] = {**held.scores, "n_components": np.array(held.n_components)}
    if plane is not None:
        names = ("means", "covariances", "x", "y", "probabilities")
        axes = columns if plane.is_exact else ["discriminant 1", "discriminant 2"]
        found["plane"] = {**{name: getattr(plane, name) for name in names}, "axes": np.array(axes, dtype=object)}
    return found
