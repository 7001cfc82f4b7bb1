"""Which likelihood the counts have: one for all, or one for each modality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from scpln.module import LIKELIHOODS, JointLikelihood, make_likelihood
from scpln.utils import one_of

if TYPE_CHECKING:
    from scpln.module import Likelihood

LikelihoodChoice = str | dict[str, str]


def check_likelihood(
    likelihood: str | Mapping[str, str], modalities: Mapping[str, int], *, is_count_data: bool
) -> LikelihoodChoice:
    """Names of the likelihoods, after checking that they suit the data.

    Parameters
    ----------
    likelihood
        A name, or one for each modality.
    modalities
        Number of genes of each; none of one AnnData.
    is_count_data
        Whether the data are counts, or else real values.

    Examples
    --------
    >>> check_likelihood({"prot": "nb", "rna": "poisson"}, {"rna": 2000, "prot": 10}, is_count_data=True)
    {'rna': 'poisson', 'prot': 'nb'}
    >>> check_likelihood({"rna": "poisson"}, {"rna": 2000, "prot": 10}, is_count_data=True)
    Traceback (most recent call last):
        ...
    ValueError: likelihood={'rna': 'poisson'} must name one for each of the modalities ['rna', 'prot'], such as ...
    """
    names = list(LIKELIHOODS)
    if not isinstance(likelihood, Mapping):
        one_of("likelihood", likelihood, names)
        if modalities and not LIKELIHOODS[likelihood].is_count:
            raise ValueError(_not_for_modalities(f"likelihood={likelihood!r}"))
        check_kind(likelihood, is_count=LIKELIHOODS[likelihood].is_count, is_count_data=is_count_data)
        return likelihood
    if not modalities:
        msg = (
            f"likelihood={dict(likelihood)!r} is for the modalities of a MuData, and the data are one AnnData. Pass one "
            f"name, likelihood={next(iter(likelihood.values()), 'poisson')!r}, or register a MuData with "
            "scpln.model.setup_mudata(mdata, modalities=[...])."
        )
        raise ValueError(msg)
    if set(likelihood) != set(modalities):
        example = {name: likelihood.get(name, "poisson") for name in modalities}
        msg = (
            f"likelihood={dict(likelihood)!r} must name one for each of the modalities {list(modalities)}, such as "
            f"{example}."
        )
        raise ValueError(msg)
    for modality, name in likelihood.items():
        one_of(f"likelihood[{modality!r}]", name, names)
        if not LIKELIHOODS[name].is_count:
            raise ValueError(_not_for_modalities(f"likelihood[{modality!r}]={name!r}"))
    return {modality: likelihood[modality] for modality in modalities}


def likelihood_of_genes(likelihood: LikelihoodChoice, modalities: Mapping[str, int], n_genes: int) -> Likelihood:
    """The likelihood of all genes: a plain one if all modalities have the same, whose solvers are the faster ones.

    Examples
    --------
    >>> likelihood_of_genes({"rna": "poisson", "prot": "poisson"}, {"rna": 5, "prot": 2}, 7)
    Poisson(7)
    """
    if isinstance(likelihood, str):
        return make_likelihood(likelihood, n_genes)
    if len(set(likelihood.values())) == 1:
        return make_likelihood(next(iter(likelihood.values())), n_genes)
    return JointLikelihood({name: make_likelihood(likelihood[name], size) for name, size in modalities.items()})


def genes_by_quadrature(likelihood: LikelihoodChoice, modalities: Mapping[str, int], n_genes: int) -> int:
    """Number of genes whose likelihood has no closed form under Gaussian posteriors, as that of Poisson counts.

    Examples
    --------
    >>> genes_by_quadrature({"rna": "poisson", "prot": "nb"}, {"rna": 5, "prot": 2}, 7)
    2
    """
    if isinstance(likelihood, str):
        return 0 if LIKELIHOODS[likelihood].is_poisson else n_genes
    return sum(size for name, size in modalities.items() if not LIKELIHOODS[likelihood[name]].is_poisson)


def check_kind(likelihood: str, *, is_count: bool, is_count_data: bool) -> None:
    """Real-valued data are for a likelihood of real values, and counts for those of counts."""
    if is_count == is_count_data:
        return
    if is_count_data:
        msg = (
            f"likelihood={likelihood!r} is for real-valued data, and these are registered as counts. Choose another "
            "likelihood, or register log-normalised values with setup_anndata(..., is_count_data=False)."
        )
    else:
        msg = (
            f"likelihood={likelihood!r} is for counts, and these data are registered with is_count_data=False. "
            "Choose likelihood='gaussian', or register raw counts."
        )
    raise ValueError(msg)


def _not_for_modalities(given: str) -> str:
    return (
        f"{given} is for real values, and modalities are modelled together as counts. Choose 'poisson', 'nb', 'zip', "
        "'zinb', 'poisson_lognormal' or 'bernoulli', with the modality's raw counts; to model real values alone, "
        "setup_anndata(mdata['prot'], ..., is_count_data=False)."
    )
