"""The decoder of log-ratios on a tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ._base import Decoder

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from scpln.core import TreeContrasts
    from scpln.module._batch import Known


class TreeDecoder(Decoder):
    r"""Log-rates of leaves from the coordinates of a tree (`scpln.core.TreeContrasts`).

    .. math:: u_i = B x_i + z_i, \quad \eta_{ij} = o_i + u_{i, \text{top}(j)} + \sum_{v} \log\text{softmax}(H u_i)_v

    with the ancestor of leaf j on the first level, and the sum over the nodes between that and j, and j itself.

    Parameters
    ----------
    coefficients
        B, (p, d).
    contrasts
        The tree, with leaves in the order of the genes.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.core import Tree, TreeContrasts
    >>> from scpln.module import Batch
    >>> tree = Tree.from_edges([("root", "a"), ("root", "b"), ("b", "c"), ("b", "d")])
    >>> decoder = TreeDecoder(np.zeros((3, 1)), TreeContrasts(tree))
    >>> batch = Batch.from_arrays(np.zeros((1, 3)), np.zeros(1), np.ones((1, 1)), dtype=torch.float64)
    >>> decoder(torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64), batch).exp().detach().round(
    ...     decimals=3
    ... )  # half of e each
    tensor([[1.0000, 1.3590, 1.3590]], dtype=torch.float64)
    """

    matrix: torch.Tensor
    paths: torch.Tensor

    def __init__(self, coefficients: NDArray[Any] | torch.Tensor, contrasts: TreeContrasts) -> None:
        super().__init__(contrasts.n_leaves, contrasts.n_leaves)
        self.coefficients = nn.Parameter(torch.as_tensor(coefficients).detach().clone())
        self.register_buffer("matrix", torch.from_numpy(contrasts.matrix), persistent=False)
        self.register_buffer("paths", torch.from_numpy(contrasts.paths), persistent=False)
        self._groups = [torch.from_numpy(group.nodes - 1) for group in contrasts.siblings]

    def decode(self, z: torch.Tensor, known: Known) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Log-rates η (..., n, p); there are no deviations."""
        coordinates = z + known.design @ self.coefficients.T
        shares = coordinates @ self.matrix.to(z).T
        for group in self._groups:
            shares = shares.index_copy(
                -1, group.ravel().to(z.device), shares[..., group].log_softmax(-1).flatten(start_dim=-2)
            )
        return shares @ self.paths.to(z).T + known.gene_offsets, {}

    @property
    def gene_parameters(self) -> list[torch.Tensor]:
        """Coefficients B."""
        return [self.coefficients]
