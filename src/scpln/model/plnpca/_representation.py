"""How cells are represented: by their latent states, or by the expression that these stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np

from scpln.data import DESIGN_KEY, Design, states
from scpln.inference import StateDensity
from scpln.model.abilities import CELLS_OF_DENSITY, Bounds, QueryMapping
from scpln.utils import as_bool, one_of

from ._expression import ExpressionSpace
from ._fit import on_cpu

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from scpln.data import Data
    from scpln.module import PLNPCAModule

#: What cells are represented by: their states, or the expression that these stand for.
Space = Literal["state", "expression"]


class Representation(QueryMapping, Bounds):
    """Models whose latent states can be seen from the genes."""

    module: PLNPCAModule

    def _check_n_latent(self, n_latent: int) -> None:
        """These data must be able to have that many dimensions."""
        n, p = self.summary_stats.n_cells, self.summary_stats.n_vars
        if n_latent > min(n, p):
            msg = (
                f"n_latent={n_latent}, but it can be at most {min(n, p):,}, the smaller of the numbers of cells ({n:,}) "
                f"and genes ({p:,})."
            )
            raise ValueError(msg)

    @property
    def n_latent_kept(self) -> int:
        """Latent dimensions with loadings that are not 0: those that explain anything, at most ``n_latent``.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        """
        self._require_trained()
        return int((self.module.loadings != 0).any(0).sum())

    def get_latent_representation(
        self,
        adata: Data | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        return_dist: bool = False,
        *,
        space: Space = "state",
        batch_size: int | None = None,
        refine: int = 0,
    ) -> NDArray[np.float32] | tuple[NDArray[np.float32], NDArray[np.float32]]:
        r"""Latent states of cells: posterior means (n, q), or the expression that they stand for (n, `n_latent_kept`).

        States have unit variance in every dimension, whatever it explains, so that distances between them count a
        dimension in which a few rare genes differ like one that tells cell types apart. For neighbours, clusters and embeddings take
        ``space="expression"``, which is what `annotate` writes into ``obsm["X_plnpca"]``: the principal components of

        .. math:: E_{ij} = \log(1 + \mathrm{E}[e^{b_j + z_i \cdot C_j} \mid y_i]),

        expected counts of cells of average size and average covariates, on the scale that PCA is usually taken of. Cells
        that the model was not trained on get coordinates in the components of those that it was. Of real values, E is their expectation.

        Parameters
        ----------
        adata, indices, batch_size, refine
            As in `get_posterior`.
        return_dist
            Whether to return means and variances of states, (n, q) each.
        space
            ``"state"`` or ``"expression"``.

        Raises
        ------
        ValueError
            If `return_dist` is asked for of expression.
        """
        one_of("space", space, get_args(Space))
        if space == "state":
            options: dict[str, Any] = {"batch_size": batch_size, "refine": refine}
            return super().get_latent_representation(adata, indices, return_dist, **options)
        if as_bool("return_dist", return_dist):
            msg = "return_dist=True gives variances of states, which expression has not. Take space='state'."
            raise ValueError(msg)
        posterior = self._infer(adata, indices, batch_size=batch_size, refine=refine)[0]
        return self._expression_space().coordinates(on_cpu(self.module), posterior)

    def _expression_space(self) -> ExpressionSpace:
        """What expression is seen from, which the module keeps once it is there."""
        module = on_cpu(self.module)
        kept = self.n_latent_kept
        if not module.expression_axes.any() and kept:
            base = module.coefficients.numpy() @ Design.from_state(states(self.registry)[DESIGN_KEY]).average
            space = ExpressionSpace.of(module, base, kept)
            axes = np.zeros(self.module.loadings.shape)
            axes[:, : space.axes.shape[1]] = space.axes
            self.module.set_expression(space.base, space.center, axes)
            return space
        axes = module.expression_axes.numpy()
        return ExpressionSpace(
            module.expression_base.numpy(), module.expression_center.numpy(), axes[:, (axes != 0).any(0)]
        )

    def _grow_from(self, reference: Self) -> None:
        reference._expression_space()
        super()._grow_from(reference)

    def _kept_states(self) -> dict[str, Any]:
        n = len(self.module.elbo)
        if self.query_ is not None or not n:
            return self.states_
        cells = np.random.default_rng(0).choice(n, min(n, CELLS_OF_DENSITY), replace=False)
        posterior = self.module.posterior(np.sort(cells))
        return {"density": StateDensity.of(posterior.mean, posterior.packed_covariance).to_lists()}
