"""The autoencoder whose cells have codes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from scpln.module._autoencoder import AutoencoderModule, Encoded
from scpln.module._generative import Generative

from ._posterior import CodePosterior
from ._vectors import CodeVectors

if TYPE_CHECKING:
    from scpln.module._batch import Batch
    from scpln.module._loss import Loss
    from scpln.module.decoders import Decoder
    from scpln.module.encoders import CodeEncoder
    from scpln.module.likelihoods import Likelihood

    from ._prior import CodePrior
    from ._quantizer import Quantizer


class VQVAEModule(AutoencoderModule):
    r"""Vector-quantized variational autoencoder of counts.

    The posterior of a cell is the one state :math:`z_q(y_i)` of its codes, so that

    .. math:: \text{ELBO}_i = \log p(y_i \mid z_q(y_i)) + \log p(k(y_i)) \le \log p(y_i)

    with :math:`\log p(k) = -M \log K` while the networks are trained, and that of the prior of codes afterwards. What is maximised is this minus
    :math:`\beta \|h_i - \text{sg}\, E\|^2`, which keeps outputs h of the encoder near their codes, and penalties.

    Parameters
    ----------
    decoder, likelihood
        Of states of M·D numbers.
    encoder
        What gives h.
    quantizer
        From h to codes.
    prior
        Of codes.
    n_cells
        Number of cells.
    commitment
        β.
    code_dropout
        Probability by which a cell is decoded from its first codes only in training: as many as a number drawn from 0 to M − 1; the others are 0.

    References
    ----------
    A. van den Oord, O. Vinyals and K. Kavukcuoglu (2017), Neural discrete representation learning, NeurIPS. O. Rippel, M. Gelbart and R. Adams (2014), Learning ordered
    representations with nested dropout, ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.module import Batch, MLPDecoder, make_likelihood
    >>> from scpln.module.codes import CodePrior, EMAQuantizer
    >>> from scpln.module.encoders import CodeEncoder
    >>> networks = MLPDecoder(5, 1, 2, hidden=(8,)), make_likelihood("nb", 5), CodeEncoder(5, 1, 2, hidden=(8,))
    >>> module = VQVAEModule(*networks, EMAQuantizer(2, 4, 1), CodePrior(2, 4), n_cells=3)
    >>> batch = Batch.from_arrays(np.eye(3, 5), np.zeros(3), np.ones((3, 1)))
    >>> module.loss(batch).parts["kl_local"]  # 2 log 4
    tensor([2.7726, 2.7726, 2.7726])
    >>> module.posterior(batch)
    CodePosterior(3 cells, 2 codes)
    """

    def __init__(
        self,
        decoder: Decoder,
        likelihood: Likelihood,
        encoder: CodeEncoder,
        quantizer: Quantizer,
        prior: CodePrior,
        n_cells: int,
        *,
        commitment: float = 1.0,
        code_dropout: float = 0.0,
    ) -> None:
        super().__init__(Generative(decoder, likelihood, CodeVectors(quantizer, prior.requires_grad_(False))), n_cells)
        self.code_encoder = encoder
        self.commitment, self.code_dropout = commitment, code_dropout

    @property
    def encoder(self) -> CodeEncoder:
        """What gives the vectors that codes are nearest to."""
        return self.code_encoder

    @property
    def states(self) -> CodeVectors:
        """The prior of states: codes, their vectors and their probabilities."""
        states = self.generative.prior
        assert isinstance(states, CodeVectors)
        return states

    @property
    def quantizer(self) -> Quantizer:
        """From vectors to codes."""
        return self.states.quantizer

    @property
    def log_states(self) -> float:
        """Logarithm of the number of joint states, M log K."""
        return self.quantizer.n_codes * math.log(self.quantizer.codebook_size)

    def loss(self, batch: Batch, *, kl_weight: float = 1.0, free_bits: float = 0.0) -> Loss:
        """Minus the mean bound of a batch under codes of the same probability; weights of divergences, which are constant, do nothing."""
        found = self.quantizer(self.code_encoder(batch))
        states = self._without_some(found.states) if self.training else found.states
        log_likelihood = self.generative.log_likelihood(states[None], batch)[0]
        loss = (self.commitment * found.commitment - log_likelihood).mean() + self.log_states
        return self._finish(loss, log_likelihood, torch.full_like(log_likelihood, self.log_states))

    def _without_some(self, states: torch.Tensor) -> torch.Tensor:
        """States (n, M·D) in which some cells have their first codes only."""
        if not self.code_dropout:
            return states
        n, n_codes = len(states), self.quantizer.n_codes
        kept = torch.randint(n_codes, (n, 1), device=states.device)
        whole = torch.rand((n, 1), device=states.device) >= self.code_dropout
        shown = whole | (torch.arange(n_codes, device=states.device) < kept)
        return states * shown.repeat_interleave(self.quantizer.dim, 1)

    @torch.no_grad()
    def encode(self, batch: Batch) -> Encoded:
        """Codes (n, M) of a batch of cells."""
        return {"codes": self.quantizer(self.code_encoder(batch)).codes}

    def compose(self, encoded: Encoded) -> CodePosterior:
        """Point masses at the vectors of codes."""
        codes = encoded["codes"].cpu()
        return CodePosterior(codes.numpy(), self.quantizer.lookup(codes.to(self.device)).double().cpu().numpy())

    def parameter_groups(self) -> list[dict[str, Any]]:
        """As those of other autoencoders; the prior of codes is learned afterwards, and codebooks by their own averages."""
        return [group for group in super().parameter_groups() if any(each.requires_grad for each in group["params"])]
