"""Where the components of a mixture prior start, and how many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scpln.inference.mixture import Components, Sites, fit_mixture
from scpln.model.base import leiden_groups

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from scpln.module import GaussianPosterior


def start_components(
    gaussian: GaussianPosterior, n_components: int | None, labels: NDArray[np.int64] | None, *, seed: int
) -> Components:
    """Components of PLN-PCA's posteriors, by expectation maximisation from k-means and from Leiden's groups.

    Component k of a label k is that of its cells; without labels, `n_components` may be None, for as many as describe cells
    that were held out.

    Parameters
    ----------
    gaussian
        Posteriors of n cells under N(0, I).
    n_components
        Components K.
    labels
        Code of each cell's label (n,), −1 where it is not known.
    seed
        Of k-means, Leiden's algorithm and the cells that are held out.
    """
    sites = Sites.of(gaussian.mean, gaussian.packed_covariance)
    known = None if labels is None or (labels < 0).all() else labels
    return fit_mixture(sites, n_components, groups=[leiden_groups], known=known, seed=seed).components
