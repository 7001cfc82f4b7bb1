"""The Poisson log-normal model: counts whose log-rates are normal with a covariance between all genes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np
import scvi
import torch

from scpln.inference.genespace import PosteriorName, ZeroInflation
from scpln.model.abilities import Differential, ExactSampling, GroupTests, PriorPredictive
from scpln.model.base import Annotation
from scpln.module import LogDensityLikelihood, PLNModule, make_likelihood
from scpln.module.covariances import COVARIANCES, Basis, Factor, Fixed, Kernel
from scpln.module.likelihoods import InflatedByCell
from scpln.utils import in_range, one_of, resolve_seed

from ._conditional import ConditionalPrediction
from ._errors import PLNErrors
from ._factors import Factors, checked_factors
from ._given import given_basis, given_matrix
from ._inference import WEIGHTED, Inference, InferenceName, check_inference
from ._inflation import Inflation, check_counts
from ._network import Networks, checked_penalty
from ._options import MOST_PRECISE
from ._size import check_size
from ._states import infer, known_covariance
from ._training import PLNTraining

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    from scpln.core import CountData
    from scpln.data import Data
    from scpln.inference.genespace import GenePosteriors
    from scpln.inference.genespace.network import Rule
    from scpln.model.base import ScplnModel
    from scpln.module import Posterior
    from scpln.module.covariances import Covariance
    from scpln.module.likelihoods import ZeroInflated

    from ._inference import LogDensity

#: Families of Σ, the default first.
CovarianceName = Literal["full", "diagonal", "spherical", "fixed", "kernel", "basis", "factor"]
#: Those that are made of a matrix that is known.
OF_KNOWN: dict[str, type[Fixed | Kernel | Basis]] = {"fixed": Fixed, "kernel": Kernel, "basis": Basis}


class PLN(
    Networks,
    Factors,
    Inflation,
    ConditionalPrediction,
    Differential,
    GroupTests,
    PLNTraining,
    PLNErrors,
    ExactSampling,
    PriorPredictive,
):
    r"""The Poisson log-normal model of counts, in the space of the genes.

    .. math::
        z_i \sim N(0, \Sigma), \quad \eta_{ij} = o_i + x_i \cdot B_j + z_{ij}, \quad y_{ij} \sim \text{Poisson}(e^{\eta_{ij}})

    with known log size factors o and design x, or another likelihood with log-rate η. Each cell has a posterior of z, which is how its log-rates differ from what the
    design says, and the evidence lower bound is maximised over those, the coefficients B and the covariance Σ between genes. It is made for tables
    of tens to hundreds of columns: gene panels, cell types by donor, taxa by sample. For thousands of genes take `PLNPCA`.

    Parameters
    ----------
    adata
        AnnData after `scpln.model.setup_anndata`.
    covariance
        Family of Σ: ``"full"``; ``"diagonal"`` and ``"spherical"`` for independent genes, with a variance each or one for all;
        ``"fixed"``, the matrix that is `given`; or ``"kernel"``, :math:`\sigma^2 (\rho K + (1 - \rho) I)` with a `given` relationship K of genes, such as
        a phylogeny's, and σ² and ρ estimated; or ``"basis"``, :math:`V \Lambda V^T` with known orthonormal directions V, `basis`, and a variance of each
        estimated; or ``"factor"``, :math:`C C^T + \text{diag}(\psi)` with `n_factors` columns of C, which is factor analysis of the log-rates.
    likelihood
        Distribution of the counts: ``"poisson"``; ``"nb"`` (negative binomial), ``"zip"`` and ``"zinb"`` (with zero inflation), each with
        parameters of every gene that are estimated with B and Σ (`get_gene_parameters`); ``"bernoulli"``, for whether a count is not zero;
        or, where Σ is ``"fixed"`` or of a ``"basis"``, ``"poisson_lognormal"``, with a normal disturbance of every log-rate: variances on the diagonal of Σ, which other
        families have already.
    zero_inflation
        Of ``"zip"`` and ``"zinb"``, what the probability π of an excess zero depends on: ``"gene"`` (the default), ``"single"``, one for
        all genes, ``"covariates"``, :math:`\text{logit}\, \pi_{ij} = x_i \cdot a_j` with the design x (`get_inflation_coefficients`), or ``"cell"``,
        one for all genes of each cell (`get_cell_inflation`), for tens of genes or more.
    posterior
        Variational family of each cell: ``"fullrank"``, Gaussians with any covariance, for up to 1,000 genes; ``"meanfield"``, with
        diagonal ones, as other packages have. In gene space the latter loses one to ten nats per sample, so that neither its
        bounds nor criteria made of them can be compared with those of other models.
    inference
        How B and Σ are estimated: ``"variational"``, by the bound; ``"quadrature"``, by the exact log-likelihood, for diagonal and spherical Σ or two genes; ``"importance"``, by
        the importance-weighted bound, for tens of genes; ``"nuts"``, by Monte-Carlo expectation maximisation with exact draws, for few genes and cells; and
        ``"score_function"``, black-box variational inference. What `get_elbo` returns is then the log-likelihood, or the importance-weighted
        bound; posteriors are Gaussians at the estimates whatever it is.
    given
        Matrix of genes × genes for ``"fixed"`` and ``"kernel"``: a DataFrame with names of genes, an array in their order, or
        the name of an entry of ``adata.varp``.
    basis
        Directions V (genes × q) for ``"basis"``, with orthonormal columns: a DataFrame with names of genes, an array in their order, or the
        name of an entry of ``adata.varm`` such as ``"PCs"``; or a fitted model (`PLN`, `PLNPCA`), whose log-rates vary along them.
    penalty
        λ > 0 of a sparse network of genes (`get_network`): the bound less :math:`n \lambda \sum_{j \ne k} |\Omega_{jk}|`, with :math:`\Omega = \Sigma^{-1}`, is
        maximised. A number; several; or the rule by which one of 30 is chosen: ``"ebic"``, the extended Bayesian information criterion with γ = ½, by which
        one of several is chosen too, ``"bic"``, or ``"stars"``, stability under subsampling. For ``"full"``; by default none.
    n_factors
        Factors of ``"factor"``, from 1 to genes − 1.
    prior_precision
        Inverse variance λ of a normal prior N(0, 1/λ) of all coefficients but intercepts, in natural logarithms of rates; 0 for none.
        Without, a gene that a category never shows has a coefficient of −∞.
    registry
        For loading; leave it out.

    References
    ----------
    J. Aitchison and C. H. Ho (1989), The multivariate Poisson-log normal distribution, Biometrika 76(4): 643-653. J. Chiquet, M.
    Mariadassou and S. Robin (2021), The Poisson-lognormal model as a versatile framework for the joint analysis of species abundances, Frontiers
    in Ecology and Evolution 9: 588292.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.simulate(n_obs=200, n_vars=12, n_latent=3)
    >>> scpln.model.setup_anndata(adata)
    >>> model = scpln.model.PLN(adata)
    >>> model.train(progress=False)
    >>> model.get_correlation().shape
    (12, 12)
    >>> model.annotate()
    >>> adata.varp["pln_correlation"].shape, adata.obsm["X_pln"].shape
    ((12, 12), (200, 12))
    """

    module: PLNModule

    def __init__(
        self,
        adata: Data | None = None,
        covariance: CovarianceName = "full",
        *,
        likelihood: str | LogDensity = "poisson",
        zero_inflation: ZeroInflation | None = None,
        posterior: PosteriorName = "fullrank",
        inference: InferenceName = "variational",
        given: pd.DataFrame | ArrayLike | str | None = None,
        basis: pd.DataFrame | ArrayLike | str | ScplnModel | None = None,
        penalty: float | Sequence[float] | Rule | None = None,
        n_factors: int | None = None,
        prior_precision: float = 1e-2,
        registry: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(adata, registry=registry)
        one_of("covariance", covariance, get_args(CovarianceName))
        one_of("posterior", posterior, get_args(PosteriorName))
        one_of("inference", inference, get_args(InferenceName))
        self.covariance: CovarianceName = covariance
        self.posterior: PosteriorName = posterior
        self.likelihood = likelihood
        self.zero_inflation: ZeroInflation | None = zero_inflation
        self.prior_precision = in_range("prior_precision", prior_precision, 0, MOST_PRECISE)
        self.inference: InferenceName = inference
        self.penalty = checked_penalty(penalty, covariance, inference, zero_inflation)
        self.n_factors = checked_factors(n_factors, covariance, len(self.genes))
        check_size(self, posterior)
        check_counts(likelihood, zero_inflation, covariance)
        check_inference(inference, posterior, covariance, len(self.genes), likelihood)
        if covariance == "basis" and posterior == "meanfield":
            msg = "covariance='basis' leaves no variance to single genes, which posterior='meanfield' needs. Take posterior='fullrank'."
            raise ValueError(msg)
        known = None
        if adata is not None:  # the module of a saved model has it
            matrix = given_matrix(given, covariance, adata, self.genes)
            directions = given_basis(basis, covariance, adata, self.genes)
            known = matrix if directions is None else directions
        if known is not None:
            OF_KNOWN[covariance](len(self.genes), known)  # which checks it
        self.module = self._new_module(known)
        self.init_params_ = self._get_init_params(locals())
        for name, value in (("given", given), ("basis", basis)):
            self.init_params_["non_kwargs"][name] = value if isinstance(value, str) else None
        self.init_params_["non_kwargs"] |= {"penalty": self.penalty, "n_factors": self.n_factors}

    @property
    def _estimator(self) -> Inference:
        name = self.inference if self.query_ is None else "variational"
        return Inference(name, self.posterior, self.likelihood, self.zero_inflation, self.penalty)

    @property
    def _closer_posteriors(self) -> str:  # type: ignore[override]
        if self.posterior == "meanfield":
            return "take posterior='fullrank'"
        return "draw from the exact ones with sample_exact_posterior"

    def _new_covariance(self) -> Covariance:
        if self.covariance in OF_KNOWN:
            return OF_KNOWN[self.covariance](len(self.genes), self.module.known.cpu().numpy())
        if self.n_factors is not None:
            return Factor(len(self.genes), self.n_factors)
        return COVARIANCES[self.covariance](len(self.genes))

    def _new_module(self, known: ArrayLike | torch.Tensor | None = None) -> PLNModule:
        p, likelihood = len(self.genes), self.likelihood
        options: dict[str, Any] = {
            "diagonal": self.posterior == "meanfield",
            "likelihood": LogDensityLikelihood(p, likelihood) if callable(likelihood) else likelihood,
            "inflation_by_design": self.zero_inflation == "covariates",
        }
        if self.zero_inflation == "cell":
            options["likelihood"] = InflatedByCell(cast("ZeroInflated", make_likelihood(str(likelihood), p)).base)
        return PLNModule(p, len(self.covariates), known, **options)

    def _empty_module(self, tensors: dict[str, torch.Tensor]) -> PLNModule:
        module = self._new_module(torch.zeros_like(tensors["known"]))
        module.parts = torch.zeros_like(tensors["parts"])
        return module

    def _load_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        self.module = self._new_module()
        self.module.load(tensors)

    def _infer(
        self,
        adata: Data | None,
        indices: Any,
        *,
        batch_size: int | None = None,
        refine: int = 0,
        with_elbo: bool | Literal["exact"] = False,
        seed: int | None = None,
    ) -> tuple[Posterior, NDArray[np.float64]]:
        """Posterior and bound of each cell: stored ones of training cells, or new ones."""
        self._require_trained()
        self._check_inference(batch_size, refine)
        resolve_seed(seed)
        positions = self._positions(adata, indices)
        of_gaussians = with_elbo == "exact" and self._estimator.has_own_bound
        if self._is_training_data(adata, positions) and not of_gaussians:
            values = self.module.elbo.cpu().numpy()
            return self.module.posterior(positions), values if positions is None else values[positions]
        cells = self._read(adata, positions)
        posterior, found = infer(self.module, cells.data, cells.names, self._estimator)
        return posterior, found.elbo if of_gaussians else self._known(cells.data, found, positions)["elbo"]

    def _known(
        self, data: CountData, found: GenePosteriors, positions: NDArray[np.intp] | None
    ) -> dict[str, NDArray[np.float64]]:
        """What the estimator knows of the log-likelihood of cells."""
        return self._estimator.bounds(
            data,
            self.module.coefficients.cpu().numpy(),
            known_covariance(self.module),
            found,
            n_samples=int(self.training_.get("bound_samples", 1)),
            seed=int(self.training_["seed"]),
            positions=positions,
            n_threads=scvi.settings.num_threads,
        )

    def _annotation(self, adata: Data, diagnostics: bool) -> Annotation:
        posterior, values = self._infer(adata, None)
        cells = self._read(adata)
        known = self._inflation_column(cells.data, posterior)
        if self._estimator.name in WEIGHTED:
            known = self._known(cells.data, infer(self.module, cells.data, cells.names, self._estimator)[1], None)
        tables = {"coefficients": self.get_coefficients()}
        if self.module.inflation is not None:
            tables["inflation_coefficients"] = self.get_inflation_coefficients()
        return Annotation(
            latent=posterior.mean.astype(np.float32),
            obs={**known, "elbo": values, **self._diagnostic_columns(posterior, values, adata, diagnostics)},
            var=self.get_gene_parameters(),
            varm={**tables, **self._factor_tables()},
            varp={"correlation": self.get_correlation(), **self._network_table()},
            uns={"elbo": self._mean_bound(values, adata.obs_names), "covariates": self.covariates},
        )
