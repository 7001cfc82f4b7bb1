"""Distributions of the codes of a cell."""

from __future__ import annotations

import math

import torch
from torch import nn

#: Cells that the average over groups counts for in the shares of a group, and cells that a uniform distribution counts for in that, for each code.
POOLED, UNIFORM = 10.0, 0.5


class CodePrior(nn.Module):
    r"""Codes that are independent of each other, given the group of a cell: :math:`p(k_1, \dots, k_M \mid g) = \prod_m p_g(k_m)`; uniform before they are learned.

    Groups are batches or labels. Where the group of a cell is not given, it is summed over, :math:`p(k) = \sum_g p(g) \, p(k \mid g)`.

    Parameters
    ----------
    n_codes, codebook_size
        Positions M, and codes K at each.
    n_groups
        Groups G; one for all cells.

    Attributes
    ----------
    table
        Log-probabilities of codes, (G, M, K).
    log_shares
        log p(g), (G,).

    Examples
    --------
    >>> prior = CodePrior(n_codes=2, codebook_size=4)
    >>> prior.log_prob(torch.tensor([[0, 3]])).exp()
    tensor([0.0625])
    >>> prior.learn(torch.zeros((1000, 2), dtype=torch.long))
    >>> float(prior.log_prob(torch.tensor([[0, 0]])).exp()) > 0.99
    True
    """

    table: torch.Tensor
    log_shares: torch.Tensor

    def __init__(self, n_codes: int, codebook_size: int, n_groups: int = 1) -> None:
        super().__init__()
        self.n_codes, self.codebook_size, self.n_groups = n_codes, codebook_size, n_groups
        self.register_buffer("table", torch.full((n_groups, n_codes, codebook_size), -math.log(codebook_size)))
        self.register_buffer("log_shares", torch.full((n_groups,), -math.log(n_groups)))

    @torch.no_grad()
    def learn(self, codes: torch.Tensor, groups: torch.Tensor | None = None) -> None:
        """Learn shares of groups (n,), and of codes (n, M) in each: those of all cells count for ten cells of every group."""
        if groups is None:
            groups = torch.zeros(len(codes), dtype=torch.long)
        chosen = nn.functional.one_hot(codes, self.codebook_size).double()  # (n, M, K)
        counts = torch.zeros((self.n_groups, *chosen.shape[1:]), dtype=torch.float64).index_add(0, groups, chosen)
        pooled = counts.sum(0) + UNIFORM
        counts = counts + POOLED * pooled / pooled.sum(-1, keepdim=True)
        self.table.copy_((counts / counts.sum(-1, keepdim=True)).log())
        sizes = torch.bincount(groups, minlength=self.n_groups).double() + UNIFORM
        self.log_shares.copy_((sizes / sizes.sum()).log())

    def conditionals(self, codes: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
        """Log p(k_m | k_1, …, k_(m−1), g) of every code k_m at each position, (n, M, K), given codes (n, M) and groups (n,)."""
        return self.table[groups]

    def log_prob(self, codes: torch.Tensor, groups: torch.Tensor | None = None) -> torch.Tensor:
        """Log p(k | g), (..., n), of codes (..., n, M) in nats; log p(k) where groups (n,) are not given, or −1."""
        flat = codes.reshape(-1, self.n_codes)
        if groups is not None:
            groups = groups.expand(codes.shape[:-1]).reshape(-1)
            known = self._log_prob_in(flat, groups.clamp_min(0))
            if (groups >= 0).all():
                return known.reshape(codes.shape[:-1])
        sums = [
            share + self._log_prob_in(flat, torch.full_like(flat[:, 0], g)) for g, share in enumerate(self.log_shares)
        ]
        values = torch.logsumexp(torch.stack(sums), 0)
        if groups is not None:
            values = torch.where(groups >= 0, known, values)
        return values.reshape(codes.shape[:-1])

    def _log_prob_in(self, codes: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
        return self.conditionals(codes, groups).gather(-1, codes[..., None])[..., 0].sum(-1)

    @torch.no_grad()
    def sample(
        self, n: int, generator: torch.Generator | None = None, groups: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Draw codes (n, M), of cells of these groups (n,), or of groups that are drawn too where they are −1 or not given."""
        drawn = torch.multinomial(self.log_shares.exp(), n, replacement=True, generator=generator)
        groups = drawn if groups is None else torch.where(groups >= 0, groups, drawn)
        codes = torch.zeros((n, self.n_codes), dtype=torch.long, device=self.table.device)
        for position in range(self.n_codes):
            shares = self.conditionals(codes, groups)[:, position].exp()
            codes[:, position] = torch.multinomial(shares, 1, generator=generator)[:, 0]
        return codes

    @torch.no_grad()
    def marginals(self) -> torch.Tensor:
        """Probabilities of the codes at each position, (M, K); of codes that depend on each other, from draws."""
        return (self.log_shares[:, None, None] + self.table).exp().sum(0)
