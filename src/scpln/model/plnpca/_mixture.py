"""The mixture prior of PLN-PCA: fitted to the cells' Gaussians, in closed form, and the genes under it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scpln.core import hold_interrupts
from scpln.inference import identified_rotation
from scpln.inference.mixture import Sites, fit_genes, fit_mixture
from scpln.model.base import leiden_groups
from scpln.module import GaussianMixture, Generative, LinearDecoder, PLNPCAModule, mixture_posterior
from scpln.train import torch_random

from ._axes import rotated_packed
from ._fit import linear_parameters, mixture_of, store

if TYPE_CHECKING:
    from scpln.data import Cells
    from scpln.inference import GenePrior

    from ._options import NewtonOptions


def with_mixture(
    cells: Cells, module: PLNPCAModule, n_components: int | None, genes: GenePrior, options: NewtonOptions
) -> tuple[PLNPCAModule, bool]:
    """A module with a mixture as prior, genes re-estimated under it, and posteriors; and whether that was not interrupted.

    The components are those under which what the cells' Gaussians say is most probable; `genes` is the prior of the genes. Ctrl-C
    is held until all are there: a module without them is none of this model.
    """
    with hold_interrupts() as held:
        sites, likelihood = Sites.of(module.mean.numpy(), module.covariance.numpy()), module.generative.likelihood
        components = fit_mixture(sites, n_components, groups=[leiden_groups], seed=options.seed).components
        settings: dict[str, Any] = {"batch_size": options.block_size, "n_threads": options.n_threads}
        linear = linear_parameters(module.generative)
        fit = fit_genes(cells.data, *linear, likelihood, components, genes, sites=sites, **settings)
        axes = identified_rotation(fit.loadings)
        components = components.rotated(axes)
        with torch_random():
            prior = GaussianMixture(components.n_components, sites.n_latent, full=True).double()
        prior.place(components.loc, components.covariance, components.weights)
        decoder = LinearDecoder(fit.coefficients, fit.loadings @ axes)
        mixed = PLNPCAModule(Generative(decoder, likelihood, prior).double())
        if len(module.spread):
            mixed.set_spread(rotated_packed(module.spread.numpy(), axes.T))
        posterior = mixture_posterior(*mixture_of(mixed, cells.data, names=cells.names, **settings))
    return mixed, store(mixed, cells.data, posterior, options.n_threads) and not held.pressed
