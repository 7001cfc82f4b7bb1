"""Codes that depend on those before them."""

from __future__ import annotations

import torch
from torch import nn

from ._prior import CodePrior

#: Numbers that stand for a code in the network, and width of its hidden layer at each position.
EMBEDDING, HIDDEN = 8, 32
#: Draws that probabilities of single positions are taken from.
_DRAWS = 20_000


class AutoregressiveCodes(CodePrior):
    r"""Codes one after the other, :math:`p(k \mid g) = \prod_m p(k_m \mid k_1, \dots, k_{m-1}, g)`.

    .. math::
        p(k_m \mid k_{<m}, g) \propto p_g(k_m) \exp\Bigl(V_m \, \text{SiLU}\bigl(b_m + c_{gm} + \sum_{j < m} U_{mj} \, e_j(k_j)\bigr)\Bigr)_{k_m}

    with the independent distribution :math:`p_g`, an embedding e of every code at every position, and a hidden layer at each position that sees only those before
    it: a masked network, which gives all positions at once. V starts at 0, where codes are independent.

    Parameters
    ----------
    n_codes, codebook_size, n_groups
        As in `CodePrior`.

    References
    ----------
    M. Germain, K. Gregor, I. Murray and H. Larochelle (2015), MADE: masked autoencoder for distribution estimation, ICML. A. van den Oord, O. Vinyals and
    K. Kavukcuoglu (2017), Neural discrete representation learning, NeurIPS, whose prior is a PixelCNN.

    Examples
    --------
    >>> prior = AutoregressiveCodes(n_codes=2, codebook_size=3)
    >>> every = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    >>> round(float(prior.log_prob(every).detach().exp().sum()), 4)
    1.0
    """

    mask: torch.Tensor

    def __init__(self, n_codes: int, codebook_size: int, n_groups: int = 1) -> None:
        super().__init__(n_codes, codebook_size, n_groups)
        self.embedding = nn.Embedding(n_codes * codebook_size, EMBEDDING)
        self.weight = nn.Parameter(torch.randn(n_codes, HIDDEN, n_codes, EMBEDDING) / (n_codes * EMBEDDING) ** 0.5)
        self.group = nn.Parameter(torch.zeros(n_groups, n_codes, HIDDEN))
        self.bias = nn.Parameter(torch.zeros(n_codes, HIDDEN))
        self.out = nn.Parameter(torch.zeros(n_codes, codebook_size, HIDDEN))
        self.register_buffer("mask", torch.ones(n_codes, n_codes).tril(-1)[:, None, :, None])

    def conditionals(self, codes: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
        """Log p(k_m | k_1, …, k_(m−1), g), (n, M, K)."""
        places = torch.arange(self.n_codes, device=codes.device) * self.codebook_size
        embedded = self.embedding(codes + places)  # (n, M, E)
        inputs = torch.einsum("nje,mhje->nmh", embedded, self.weight * self.mask)
        hidden = nn.functional.silu(inputs + self.bias + self.group[groups])
        logits = torch.einsum("nmh,mkh->nmk", hidden, self.out)
        return torch.log_softmax(self.table[groups] + logits, -1)

    @torch.no_grad()
    def marginals(self) -> torch.Tensor:
        """Probabilities of the codes at each position, (M, K), from 20,000 draws."""
        codes = self.sample(_DRAWS, torch.Generator(self.table.device).manual_seed(0))
        return nn.functional.one_hot(codes, self.codebook_size).double().mean(0)
