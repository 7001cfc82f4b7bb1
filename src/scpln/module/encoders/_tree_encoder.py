"""Encoders of counts on a tree: Gaussians of the form that the optimal ones have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ._encoder import Encoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from scpln.core import TreeContrasts
    from scpln.module._batch import Batch

#: Weights stay within e^±12 of the counts, softly.
_LOG_WEIGHT_RANGE = 12.0
#: What is added to a count before its logarithm is taken, and to precisions, relative to that of the prior.
_PSEUDO_COUNT, _LEAST_WEIGHT = 0.5, 1e-8


class TreeEncoder(Encoder):
    r"""Gaussians of samples from their counts on a tree, that are Markov chains from the last level to the first.

    .. math:: q(z) \propto N(z; 0, \Sigma) \prod_l N(\xi^l; z^l, \Lambda_l^{-1}), \quad V = (\Omega + \Lambda)^{-1}, \quad m = V \Lambda \xi

    The prior is a chain, and what an encoder says of a level, pseudo-observations ξ of its coordinates with a precision Λ, is of that level alone. So that
    this is :math:`q(z^L) \prod_l q(z^l \mid z^{l+1})` with means that are linear in :math:`z^{l+1}`, for which, as in structured variational autoencoders [1]_, no
    network has to learn what the model knows. Every node has a weight w, and Λ has the blocks that the best Gaussian has: w on the first level, and
    :math:`H^T (\text{diag}(w) - w w^T / \sum w) H` of siblings. Coordinates and weights start as those of the observed log-rates, log-ratios and counts, and
    networks add to ξ and log w: as many outputs as coordinates and nodes.

    Parameters
    ----------
    contrasts
        The tree, with leaves in the order of the genes.
    n_covariates
        Columns d of the design.
    hidden
        Widths of the hidden layers.

    Attributes
    ----------
    coefficients, precision
        B (p, d) and Ω (p, p) of the model.

    References
    ----------
    .. [1] M. Johnson, D. Duvenaud, A. Wiltschko, S. Datta and R. Adams (2016), Composing graphical models with neural networks for structured representations
       and fast inference. NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.core import Tree, TreeContrasts
    >>> from scpln.module import Batch
    >>> tree = Tree.from_edges([("root", "a"), ("root", "b"), ("b", "c"), ("b", "d")])
    >>> encoder = TreeEncoder(TreeContrasts(tree, ["a", "c", "d"]), n_covariates=1, hidden=(8,))
    >>> counts = np.array([[20, 70, 10]])
    >>> loc, scale, _ = encoder(Batch.from_arrays(counts, np.zeros(1), np.ones((1, 1)), dtype=torch.float64))
    >>> (loc[:, :2].exp() / 10).round()  # before training: of a and b, near their counts
    tensor([[2., 8.]], dtype=torch.float64, grad_fn=<RoundBackward0>)
    """

    coefficients: torch.Tensor
    precision: torch.Tensor
    top: torch.Tensor
    matrix: torch.Tensor
    paths: torch.Tensor

    def __init__(self, contrasts: TreeContrasts, n_covariates: int, *, hidden: Sequence[int] = (128, 128)) -> None:
        p = contrasts.n_leaves
        super().__init__(p, n_covariates, p, hidden=hidden, diagonal=True)
        del self.gaussian
        self.observed = nn.Linear(self.n_features + p, p)
        self.log_weight = nn.Linear(self.n_features + p, len(contrasts.matrix))
        for head in (self.observed, self.log_weight):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
        self.register_buffer("coefficients", torch.zeros(p, n_covariates))
        self.register_buffer("precision", torch.eye(p))
        for name, value in (("matrix", contrasts.matrix), ("paths", contrasts.paths)):
            self.register_buffer(name, torch.from_numpy(value), persistent=False)
        self._siblings = [
            (torch.from_numpy(group.nodes - 1), torch.from_numpy(group.coordinates), torch.from_numpy(group.basis))
            for group in contrasts.siblings
        ]
        self.register_buffer("top", torch.arange(len(contrasts.top)), persistent=False)
        self.double()

    def set_model(self, coefficients: ArrayLike, precision: ArrayLike) -> None:
        """Take over B and Ω."""
        self.coefficients.copy_(torch.as_tensor(coefficients))
        self.precision.copy_(torch.as_tensor(precision))

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Means m (n, p), lower-triangular L (n, p, p) with V = LLᵀ, and features (n, last width)."""
        nodes, mean = batch.counts.dense @ self.paths, batch.design @ self.coefficients.T
        offsets = torch.zeros_like(nodes).index_add(1, self.top, batch.offsets[:, None].expand(-1, len(self.top)))
        log_nodes = torch.log(nodes + _PSEUDO_COUNT * self._expected(mean @ self.matrix.T + offsets))
        coordinates = (log_nodes - offsets) @ self.matrix - mean
        features = self.trunk(batch)
        known = torch.cat([features, coordinates], 1)
        precision = self._weigh(torch.log(nodes + _PSEUDO_COUNT) + _softly(self.log_weight(known)), nodes)
        response = (precision @ (coordinates + self.observed(known))[..., None])[..., 0]
        scale = _inverse_root(self.precision + precision)
        loc = (scale @ (scale.mT @ response[..., None]))[..., 0]
        return loc, scale, features

    def _expected(self, log_ratios: torch.Tensor) -> torch.Tensor:
        """By the prior's means (n, nodes): rates of the first level up to 1, and of siblings shares, relative to equal ones."""
        result = log_ratios.clamp_max(0).exp()
        for members, *_ in self._siblings:
            shares = members.shape[1] * log_ratios[:, members].softmax(-1)
            result = result.index_copy(1, members.ravel(), shares.flatten(start_dim=1))
        return result

    def _weigh(self, log_weight: torch.Tensor, nodes: torch.Tensor) -> torch.Tensor:
        """Λ, (n, p, p), from logarithms of weights (n, nodes); siblings without counts have none."""
        n, p = len(nodes), self.matrix.shape[1]
        result = torch.diag_embed(_LEAST_WEIGHT * self.precision.diagonal().expand(n, p))
        result = result.index_put(
            (torch.arange(n)[:, None], self.top, self.top), log_weight[:, self.top].exp(), accumulate=True
        )
        for members, coordinates, basis in self._siblings:
            some = nodes[:, members].sum(-1, keepdim=True) > 0
            weight = log_weight[:, members].exp() * some
            share = weight / weight.sum(-1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
            spread = weight[..., None] * (basis - (share[..., None, :] @ basis))
            at = coordinates[:, :, None], coordinates[:, None, :]
            result = result.index_put((torch.arange(n)[:, None, None, None], *at), basis.T @ spread, accumulate=True)
        return result


def _softly(values: torch.Tensor) -> torch.Tensor:
    return _LOG_WEIGHT_RANGE * torch.tanh(values / _LOG_WEIGHT_RANGE)


def _inverse_root(precision: torch.Tensor) -> torch.Tensor:
    """Lower-triangular L with LLᵀ the inverse of each matrix."""
    root = torch.linalg.cholesky(precision.flip((-1, -2)))
    identity = torch.eye(root.shape[-1], dtype=root.dtype).expand_as(root)
    return torch.linalg.solve_triangular(root, identity, upper=False).mT.flip((-1, -2))
