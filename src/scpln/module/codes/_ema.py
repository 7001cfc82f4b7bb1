"""Codebooks that follow the means of what they are chosen for."""

from __future__ import annotations

import torch

from ._quantizer import GradientName, Quantizer

#: Counts that every code has beside those of cells, so that none is divided by 0.
_SMALLEST = 1e-5
#: A code whose average count is below this share of the average over codes is dead.
DEAD = 0.1


class EMAQuantizer(Quantizer):
    r"""A codebook for each position, by exponential moving averages.

    .. math::
        N_{mk} \leftarrow \gamma N_{mk} + (1 - \gamma) \sum_i 1[k_{im} = k], \quad
        S_{mk} \leftarrow \gamma S_{mk} + (1 - \gamma) \sum_i 1[k_{im} = k] \, h_{im}, \quad E_{mk} = S_{mk} / N_{mk}

    in each step of training, with N smoothed towards its mean over codes. A code that is hardly chosen any more begins anew at a vector of the present batch.
    Codebooks are no parameters, and get no gradient.

    Parameters
    ----------
    n_codes, codebook_size, dim, gradient
        As in `Quantizer`.
    decay
        γ.
    restart
        Whether dead codes begin anew.

    References
    ----------
    A. van den Oord, O. Vinyals and K. Kavukcuoglu (2017), Neural discrete representation learning, NeurIPS, appendix A.1. A. Razavi, A. van den Oord and O.
    Vinyals (2019), Generating diverse high-fidelity images with VQ-VAE-2, NeurIPS. P. Dhariwal et al. (2020), Jukebox, arXiv 2005.00341.

    Examples
    --------
    >>> quantizer = EMAQuantizer(n_codes=1, codebook_size=2, dim=1).eval()
    >>> quantizer.place(torch.tensor([[[-1.0], [1.0]]]))
    >>> quantizer(torch.tensor([[0.3], [-2.0]])).codes
    tensor([[1],
            [0]])
    """

    codebook: torch.Tensor
    counts: torch.Tensor
    sums: torch.Tensor

    def __init__(
        self,
        n_codes: int,
        codebook_size: int,
        dim: int,
        gradient: GradientName = "straight_through",
        *,
        decay: float = 0.9,
        restart: bool = True,
    ) -> None:
        super().__init__(n_codes, codebook_size, dim, gradient)
        self.decay, self.restart = decay, restart
        self.register_buffer("codebook", torch.randn(n_codes, codebook_size, dim))
        self.register_buffer("counts", torch.ones(n_codes, codebook_size))
        self.register_buffer("sums", self.codebook.clone())

    @property
    def vectors(self) -> torch.Tensor:
        """E, (M, K, D)."""
        return self.codebook

    @torch.no_grad()
    def place(self, vectors: torch.Tensor, counts: torch.Tensor | None = None) -> None:
        """Put codes at vectors (M, K, D), as if so many cells of a batch (M, K) had chosen each; by default one."""
        self.codebook.copy_(vectors)
        if counts is None:
            self.counts.fill_(1.0)
        else:
            self.counts.copy_(counts)
        self.sums.copy_(self.codebook * self.counts[..., None])

    @torch.no_grad()
    def learn(self, h: torch.Tensor, codes: torch.Tensor) -> None:
        """Move codes towards the vectors of a batch (n, M, D) that chose them."""
        chosen = torch.nn.functional.one_hot(codes.T, self.codebook_size).to(h)  # (M, n, K)
        self.counts.lerp_(chosen.sum(1), 1 - self.decay)
        self.sums.lerp_(torch.bmm(chosen.mT, h.transpose(0, 1)), 1 - self.decay)
        if self.restart:
            self._restart(h)
        total = self.counts.sum(1, keepdim=True)
        smoothed = (self.counts + _SMALLEST) / (total + self.codebook_size * _SMALLEST) * total
        self.codebook.copy_(self.sums / smoothed[..., None])

    def _restart(self, h: torch.Tensor) -> None:
        """Put dead codes at vectors of the batch, drawn at random, with the average count."""
        average = self.counts.mean(1, keepdim=True)
        dead = self.counts < DEAD * average
        if not dead.any():
            return
        positions, _ = dead.nonzero(as_tuple=True)
        cells = torch.randint(len(h), (len(positions),), device=h.device)
        counts = average[positions, 0]
        self.counts[dead] = counts
        self.sums[dead] = h[cells, positions] * counts[:, None]
