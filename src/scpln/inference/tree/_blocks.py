"""Block-diagonal matrices of many samples, with blocks of the groups of siblings of a tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from scpln.core import Array, TreeContrasts


@dataclass(frozen=True)
class Blocks:
    """Where blocks of one size k stand, among coordinates, (G, k), and in packed matrices."""

    coordinates: NDArray[np.intp]
    place: slice

    @property
    def shape(self) -> tuple[int, int, int]:
        """Blocks, rows and columns, (G, k, k)."""
        g, k = self.coordinates.shape
        return g, k, k


class BlockLayout:
    """Packed block-diagonal matrices, (n, size): blocks of one coordinate for the first level, and of K − 1 for K siblings.

    Examples
    --------
    >>> from scpln.core import Tree, TreeContrasts
    >>> tree = Tree.from_edges([("r", "a"), ("r", "b"), ("b", "c"), ("b", "d"), ("b", "e")])
    >>> layout = BlockLayout(TreeContrasts(tree))
    >>> layout.dense(np.arange(1.0, 7.0)[None])[0]
    array([[1., 0., 0., 0.],
           [0., 2., 0., 0.],
           [0., 0., 3., 4.],
           [0., 0., 5., 6.]])
    """

    def __init__(self, contrasts: TreeContrasts) -> None:
        self.contrasts, self.n_coordinates, start, self.blocks = contrasts, contrasts.n_leaves, 0, []
        top = np.arange(len(contrasts.top))[:, None]
        for coordinates in (top, *(group.coordinates for group in contrasts.siblings)):
            stop = start + coordinates.size * coordinates.shape[1]
            self.blocks.append(Blocks(coordinates, slice(start, stop)))
            start = stop
        self.size = start

    def parts(self, packed: Array) -> Iterator[tuple[Blocks, Array]]:
        """Blocks of each size, (n, G, k, k), views of packed matrices."""
        for each in self.blocks:
            yield each, packed[:, each.place].reshape(len(packed), *each.shape)

    def diagonal(self, packed: Array) -> Array:
        """Diagonals, (n, p)."""
        result = np.empty((len(packed), self.n_coordinates))
        for each, values in self.parts(packed):
            result[:, each.coordinates] = np.einsum("ngkk->ngk", values)
        return result

    def of_weights(self, weight: Array, least: Array) -> Array:
        r"""Blocks diag(w) of the first level, and :math:`H^T (\\text{diag}(w) - w w^T / \\sum w) H` of siblings, of weights of all nodes (n, nodes), plus a diagonal (p,)."""
        result = np.zeros((len(weight), self.size))
        (_, first), *others = self.parts(result)
        first[..., 0, 0] = weight[:, self.contrasts.top - 1]
        for group, (_, own) in zip(self.contrasts.siblings, others, strict=True):
            w = weight[:, group.nodes - 1]
            total = w.sum(2, keepdims=True)
            tilt = np.divide(w, total, where=total > 0, out=np.zeros_like(w))
            spread = group.basis * w[..., None]
            own[...] = group.basis.T @ spread - (tilt @ group.basis)[..., None] * (w @ group.basis)[:, :, None, :]
        for each, own in self.parts(result):
            np.einsum("ngkk->ngk", own)[...] += least[each.coordinates]
        return result

    def lacking(self, factors: Array) -> Array:
        """Blocks of I − FᵀF of factors F (n, q, p), packed."""
        result = np.empty((len(factors), self.size))
        for each, own in self.parts(result):
            columns = np.ascontiguousarray(factors[:, :, each.coordinates].transpose(0, 2, 3, 1))
            own[...] = np.eye(each.shape[1]) - columns @ columns.transpose(0, 1, 3, 2)
        return result

    def cholesky(self, packed: Array) -> Array:
        """Lower triangles L of LLᵀ, packed; roots of single numbers."""
        result = np.zeros_like(packed)
        for (each, values), (_, own) in zip(self.parts(packed), self.parts(result), strict=True):
            if each.shape[1] == 1:
                own[...] = np.sqrt(values)
            else:
                own[...] = torch.linalg.cholesky_ex(torch.from_numpy(np.ascontiguousarray(values))).L.numpy()
        return result

    def transpose(self, packed: Array) -> Array:
        """Transposed blocks."""
        result = np.empty_like(packed)
        for (_, values), (_, own) in zip(self.parts(packed), self.parts(result), strict=True):
            own[...] = values.transpose(0, 1, 3, 2)
        return result

    def times(self, vectors: Array, packed: Array) -> Array:
        """Row vectors (n, p) times the matrices."""
        return self.columns(vectors[:, None, :], packed)[:, 0]

    def columns(self, matrix: Array, packed: Array) -> Array:
        """A matrix (q, p), or one of each sample (n, q, p), times the block-diagonal matrices, (n, q, p)."""
        matrix = matrix if matrix.ndim == 3 else matrix[None]
        result = np.empty((len(packed), *matrix.shape[1:]))
        for each, values in self.parts(packed):
            if each.shape[1] == 1:
                result[:, :, each.coordinates[:, 0]] = matrix[:, :, each.coordinates[:, 0]] * values[:, None, :, 0, 0]
            else:
                own = np.ascontiguousarray(matrix[:, :, each.coordinates].transpose(0, 2, 1, 3))
                result[:, :, each.coordinates] = (own @ values).transpose(0, 2, 1, 3)
        return result

    def between(self, inverse: Array, packed: Array) -> Array:
        """Blocks :math:`L^{-T} M L^{-1}` of packed M, given packed L⁻¹."""
        result = np.empty_like(packed)
        parts = zip(self.parts(inverse), self.parts(packed), self.parts(result), strict=True)
        for (_, root), (_, values), (_, own) in parts:
            own[...] = root.transpose(0, 1, 3, 2) @ values @ root
        return result

    def inverse_lower(self, packed: Array) -> Array:
        """Inverses of lower triangles."""
        result = np.zeros_like(packed)
        for (each, values), (_, own) in zip(self.parts(packed), self.parts(result), strict=True):
            if each.shape[1] == 1:
                own[...] = 1 / values
                continue
            triangles = torch.from_numpy(np.ascontiguousarray(values))
            identity = torch.eye(each.shape[1], dtype=triangles.dtype).expand_as(triangles)
            own[...] = torch.linalg.solve_triangular(triangles, identity, upper=False).numpy()
        return result

    def packed(self, dense: Array) -> Array:
        """Blocks of full matrices (n, p, p), packed."""
        result = np.empty((len(dense), self.size))
        for each, own in self.parts(result):
            own[...] = dense[:, each.coordinates[:, :, None], each.coordinates[:, None, :]]
        return result

    def dense(self, packed: Array) -> Array:
        """Full matrices, (n, p, p)."""
        result = np.zeros((len(packed), self.n_coordinates, self.n_coordinates))
        for each, values in self.parts(packed):
            result[:, each.coordinates[:, :, None], each.coordinates[:, None, :]] = values
        return result
