"""Discriminant analysis of counts: a Poisson log-normal model with a mean for each label, and Bayes' rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
from scvi import REGISTRY_KEYS

from scpln.core import hold_interrupts
from scpln.data import read_labels, setup_args, states
from scpln.inference.genespace import PosteriorName
from scpln.inference.genespace.mixture import fit_pln_groups, infer_pln_mixture
from scpln.model.base import warn_stuck
from scpln.model.pln import MOST_PRECISE, check_size, training_options
from scpln.model.pln_mixture import GeneSpaceMixture
from scpln.module.covariances import COVARIANCES
from scpln.utils import as_bool, in_range, one_of, progress_bar

from ._axes import discriminant_axes
from ._classes import checked_names, checked_priors, labelled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray

    from scpln.data import Data
    from scpln.model.base import Annotation

#: Families of the covariance, the default first.
CovarianceName = Literal["full", "diagonal", "spherical"]
Priors = Literal["empirical", "uniform"]


class PLNLDA(GeneSpaceMixture):
    r"""Linear discriminant analysis of counts, by the Poisson log-normal model in the space of the genes.

    .. math::
        z_i \mid g_i \sim N(\mu_{g_i}, \Sigma), \quad \eta_{ij} = o_i + x_i \cdot B_j + z_{ij}, \quad
        y_{ij} \sim \text{Poisson}(e^{\eta_{ij}})

    for cells or samples whose label g is known, with known log size factors o and design x. Others are then labelled by Bayes' rule on the bounds
    :math:`L_{ig}` of :math:`\log p(y_i \mid g)`,

    .. math:: p(g \mid y_i) \approx \pi_g e^{L_{ig}} / \sum_h \pi_h e^{L_{ih}}.

    Labels are those of the ``labels_key`` that `setup_anndata` was given. Cells without one (missing values, or the ``unlabeled_category``)
    have no part in training. Of training cells, too, probabilities are those that counts give, without their label: they are of the
    cells that the means were fitted to, and so too sure. For the share of errors, predict cells that were held out.

    Parameters
    ----------
    adata
        AnnData after `scpln.model.setup_anndata` with a ``labels_key``.
    priors
        Probabilities π of the labels: ``"empirical"``, their shares of the labelled cells; ``"uniform"``; or a mapping from each label to its
        probability.
    covariance
        Family of Σ, which all labels share: ``"full"``, ``"diagonal"`` or ``"spherical"``.
    posterior, prior_precision
        As for `PLN`. Differences between the labels' means have this prior, too.
    registry
        For loading; leave it out.

    References
    ----------
    J. Chiquet, M. Mariadassou and S. Robin (2021), The Poisson-lognormal model as a versatile framework for the joint analysis of species abundances, Frontiers
    in Ecology and Evolution 9: 588292.

    Examples
    --------
    >>> import numpy as np, scpln
    >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=8, n_latent=2)
    >>> adata.obs["side"] = np.where(adata.obsm["true_latent"][:, 0] > 0, "right", "left")
    >>> scpln.model.setup_anndata(adata, labels_key="side")
    >>> model = scpln.model.PLNLDA(adata)
    >>> model.train(progress=False)
    >>> sorted(set(model.predict()))
    ['left', 'right']
    >>> model.predict(soft=True).columns.to_list()
    ['left', 'right']
    >>> model.annotate()
    >>> adata.obsm["X_plnlda"].shape
    (100, 1)
    """

    def __init__(
        self,
        adata: Data | None = None,
        priors: Priors | Mapping[Any, float] = "empirical",
        *,
        covariance: CovarianceName = "full",
        posterior: PosteriorName = "fullrank",
        prior_precision: float = 1e-2,
        registry: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(adata, registry=registry)
        one_of("covariance", covariance, get_args(CovarianceName))
        one_of("posterior", posterior, get_args(PosteriorName))
        self.covariance: CovarianceName = covariance
        self.posterior: PosteriorName = posterior
        self.prior_precision = in_range("prior_precision", prior_precision, 0, MOST_PRECISE)
        check_size(self, posterior)
        self.label_names, self.label_dtype = self._known_labels()
        self.priors = checked_priors(priors, self.label_names)
        self.module = self._new_module(len(self.label_names))
        self.init_params_ = self._get_init_params(locals())
        self.init_params_["non_kwargs"]["priors"] = self.priors

    @property
    def n_components(self) -> int:
        """Number of labels."""
        return len(self.label_names)

    def _known_labels(self) -> tuple[list[str], str]:
        """Labels that cells may have, as text, and the type that they had."""
        if setup_args(self.registry)["labels_key"] is None:
            msg = "PLNLDA needs labels of some cells. Call scpln.model.setup_anndata(adata, labels_key='a column of adata.obs')."
            raise ValueError(msg)
        state = states(self.registry)[REGISTRY_KEYS.LABELS_KEY]
        return checked_names(list(state["categorical_mapping"])), state["dtype"]

    def train(
        self,
        max_epochs: int | None = None,
        *,
        tol: float = 1e-5,
        seed: int | None = None,
        n_threads: int | None = None,
        progress: bool = True,
    ) -> None:
        """Maximise the bound over means of labels, covariance, coefficients and posteriors.

        Ctrl-C stops early and keeps the best parameters so far. Training again starts anew.

        Parameters
        ----------
        max_epochs
            At most so many iterations; by default 1,000.
        tol
            Converged when an iteration gains less than this, nats per cell, averaged over ten.
        seed
            Of the draws that the summary of the posteriors is made from; the fit itself has none. By default ``scvi.settings.seed``, or 0.
        n_threads
            Threads; by default ``scvi.settings.num_threads``, or all cores.
        progress
            Whether to show a progress bar, in the style of ``scvi.settings.progress_bar_style``.

        Raises
        ------
        ValueError
            If there are fewer than two cells with one of the labels.
        """
        progress, options = as_bool("progress", progress), training_options(max_epochs, tol, seed, n_threads)
        assert self.adata is not None
        cells, (codes, _) = self._read(None), read_labels(self.adata, self.registry) or (np.empty(0, np.int64), [])
        known, groups, weights = labelled(codes, self.label_names, self.priors)
        settings: dict[str, Any] = {
            "posterior": "meanfield" if self._has_diagonal_posteriors else "fullrank",
            "n_threads": options["n_threads"],
        }
        with progress_bar(type(self).__name__, options["max_epochs"], at_most=True, show=progress) as bar:
            parameters, fit = fit_pln_groups(
                cells.data.subset(known),
                COVARIANCES[self.covariance](len(self.genes)),
                groups,
                weights,
                prior_precision=self.prior_precision,
                max_iter=options["max_epochs"],
                tol=options["tol"],
                on_iteration=bar.update,
                **settings,
            )
            bar.finish(fit.reason)
        with hold_interrupts() as held:
            found = infer_pln_mixture(cells.data, parameters, **settings)
        warn_stuck(found.stuck, len(cells.names), cells.names)
        reason = held.after(fit.reason)
        training = self._judged(found.elbo, cells.names, converged=fit.converged, reason=reason)
        training |= {"n_parameters": fit.coefficients.size + fit.covariance.n_parameters, "n_labelled": len(known)}
        self._keep(cells, parameters, found, training, options, dict(fit.history))

    def predict(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        *,
        soft: bool = False,
        batch_size: int | None = None,
        reject: float | None = None,
    ) -> NDArray | pd.DataFrame:
        """Most probable label of each cell, or the probabilities of all.

        Parameters
        ----------
        adata, indices, batch_size
            As in `get_posterior`. Labels are not looked at.
        soft
            Whether to return the probabilities (cells × labels), as `get_cluster_probabilities`.
        reject
            Share of the training cells to refuse, from 0 to 1, for every label alike: cells that are farther from their label's mean are
            ``"unknown"``. See `CountGMVAE.predict`.

        Returns
        -------
        Labels of the cells (n,), of the type that they have in ``labels_key``; or a DataFrame.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If `reject` is not from 0 to 1, or given with `soft`.
        """
        if as_bool("soft", soft):
            if reject is not None:
                msg = "reject= is for labels, and soft=True asks for probabilities. Leave one of them out."
                raise ValueError(msg)
            return self.get_cluster_probabilities(adata, indices, batch_size=batch_size)
        return super().predict(adata, indices, batch_size=batch_size, reject=reject)

    def get_discriminant_axes(self) -> pd.DataFrame:
        r"""Directions in which the means of the labels differ, in units of the covariance within them (genes × axes).

        With L the Cholesky factor of Σ, the right singular vectors v of the means, as :math:`\sqrt{\pi_g} L^{-1} (\mu_g - \bar\mu)`, give the axes
        :math:`a = L^{-T} v`: latent states have variance 1 along each within labels, and are independent. They are in the order of the variance
        between labels, with the largest entry, times the gene's deviation, positive. There is one less than labels, or fewer.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        """
        self._require_trained()
        prior = self.prior_on_cpu
        axes = discriminant_axes(prior.log_weights.exp().numpy(), prior.loc.numpy(), prior.scale[0].numpy())
        return pd.DataFrame(axes, index=self.genes, columns=[f"LD{number + 1}" for number in range(axes.shape[1])])

    def get_discriminant_scores(
        self, adata: AnnData | None = None, indices: Sequence[int] | ArrayLike | None = None
    ) -> pd.DataFrame:
        """Posterior means of the latent states along the discriminant axes, for figures (cells × axes).

        They are of what the counts say, without labels: means over the labels, by their probabilities.

        Parameters
        ----------
        adata, indices
            As in `get_posterior`.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        """
        axes = self.get_discriminant_axes()
        scores = self._infer(adata, indices)[0].mean @ axes.to_numpy()
        return pd.DataFrame(scores, index=self._cell_names(adata, indices), columns=axes.columns)

    def _annotation(self, adata: Data, diagnostics: bool) -> Annotation:
        annotation = super()._annotation(adata, diagnostics)
        annotation.latent = self.get_discriminant_scores(adata).to_numpy(np.float32)
        annotation.varm["axes"] = self.get_discriminant_axes()
        annotation.varp["correlation"] = self.get_correlation()
        return annotation
