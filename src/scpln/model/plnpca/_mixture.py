"""The mixture prior of PLN-PCA: fitted to the cells' Gaussians, in closed form."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from scpln.core import hold_interrupts
from scpln.inference.mixture import Sites, fit_mixture
from scpln.model.base import leiden_groups
from scpln.module import GaussianMixture, Generative, PLNPCAModule, mixture_posterior
from scpln.train import torch_random

from ._fit import mixture_of, store

if TYPE_CHECKING:
    from scpln.data import Cells

    from ._options import NewtonOptions


def with_mixture(
    cells: Cells, module: PLNPCAModule, n_components: int | None, options: NewtonOptions
) -> tuple[PLNPCAModule, bool]:
    """The same genes with a mixture as prior, and the posteriors under it; and whether that was not interrupted.

    The components are those under which what the cells' Gaussians say is most probable. Ctrl-C is held until they are there: a
    module without them is none of this model.
    """
    with hold_interrupts() as held:
        sites = Sites.of(module.mean.numpy(), module.covariance.numpy())
        found = fit_mixture(sites, n_components, groups=[leiden_groups], seed=options.seed).components
        with torch_random():
            prior = GaussianMixture(found.n_components, sites.n_latent, full=True).double()
        prior.place(found.loc, found.covariance, found.weights)
        generative = module.generative
        mixed = PLNPCAModule(Generative(copy.deepcopy(generative.decoder), generative.likelihood, prior).double())
        mixed.set_spread(module.spread.numpy())
        posterior = mixture_posterior(
            *mixture_of(mixed, cells.data, sites=sites, names=cells.names, n_threads=options.n_threads)
        )
    return mixed, store(mixed, cells.data, posterior, options.n_threads) and not held.pressed
