"""Choices about codes: how many, how they are found, and how probable they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self, TypedDict, get_args

from scpln.model.base import MOST_LATENT
from scpln.module.codes import (
    AutoregressiveCodes,
    CodePrior,
    EMAQuantizer,
    FiniteScalarQuantizer,
    GradientName,
    levels_of,
)
from scpln.utils import as_bool, in_range, one_of, positive_integer, positive_integer_or_none

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from lightning.pytorch import Callback
    from lightning.pytorch.loggers import Logger

    from scpln.module.codes import Quantizer

QuantizerName = Literal["ema", "fsq"]
PriorName = Literal["autoregressive", "independent", "uniform"]
#: What the prior of codes may be given, of what `setup_anndata` registered.
GivenName = Literal["batch", "labels"]

#: Most positions, codes at each, and weight of the commitment.
MOST_CODES, LARGEST_CODEBOOK, MOST_COMMITTED = 64, 4096, 1000.0
#: Dimensions of a cell's state, all positions together, unless positions are so many that each has two.
_DIMENSIONS, _FEWEST = 16, 2


class MoreTraining(TypedDict, total=False):
    """Arguments of ``train`` in its groups, for type checkers."""

    weight_decay: float | None
    gradient_clip: float
    checkpoint_dir: str | os.PathLike | None
    checkpoint_every: int
    resume: bool
    callbacks: Sequence[Callback]
    logger: Logger | None
    enable_progress_bar: bool
    check_val_every_n_epoch: Literal[1]


@dataclass(frozen=True)
class CodeOptions:
    """Checked choices of `CountVQVAE`; see there for what they mean."""

    n_codes: int
    codebook_size: int
    code_dim: int
    quantizer: QuantizerName
    prior: PriorName
    prior_given: GivenName | None
    gradient: GradientName
    commitment: float
    decay: float
    restart: bool
    code_dropout: float

    @classmethod
    def of(
        cls,
        *,
        n_codes: int,
        codebook_size: int,
        code_dim: int | None,
        quantizer: QuantizerName,
        prior: PriorName,
        prior_given: GivenName | None,
        gradient: GradientName,
        commitment: float,
        decay: float,
        restart: bool,
        code_dropout: float,
    ) -> Self:
        """Check the arguments of the constructor, and fill in what follows from others."""
        one_of("quantizer", quantizer, get_args(QuantizerName))
        one_of("prior", prior, get_args(PriorName))
        one_of("gradient", gradient, get_args(GradientName))
        if prior_given is not None:
            one_of("prior_given", prior_given, get_args(GivenName))
            if prior == "uniform":
                msg = f"prior_given={prior_given!r} is for a prior that is learned, and prior='uniform' is not. Leave it out."
                raise ValueError(msg)
        n_codes = positive_integer("n_codes", n_codes, most=MOST_CODES)
        least = 2 if quantizer == "fsq" else 1
        codebook_size = positive_integer("codebook_size", codebook_size, least=least, most=LARGEST_CODEBOOK)
        code_dim = positive_integer_or_none("code_dim", code_dim, most=MOST_LATENT)
        if quantizer == "fsq":
            found = len(levels_of(codebook_size))
            if code_dim not in (None, found):
                msg = f"code_dim={code_dim}, but codebook_size={codebook_size} of quantizer='fsq' makes it {found}. Leave it out."
                raise ValueError(msg)
            code_dim = found
        elif code_dim is None:
            code_dim = max(_FEWEST, _DIMENSIONS // n_codes)
        if n_codes * code_dim > MOST_LATENT:
            msg = f"n_codes={n_codes} positions of code_dim={code_dim} dimensions are too many: together they can be at most {MOST_LATENT}."
            raise ValueError(msg)
        return cls(
            n_codes=n_codes,
            codebook_size=codebook_size,
            code_dim=code_dim,
            quantizer=quantizer,
            prior=prior,
            prior_given=prior_given,
            gradient=gradient,
            commitment=in_range("commitment", commitment, 0, MOST_COMMITTED),
            decay=in_range("decay", decay, 0, 1),
            restart=as_bool("restart", restart),
            code_dropout=in_range("code_dropout", code_dropout, 0, 1),
        )

    @property
    def n_latent(self) -> int:
        """Numbers of a cell's state, M·D."""
        return self.n_codes * self.code_dim

    def make_quantizer(self) -> Quantizer:
        """What finds the codes."""
        if self.quantizer == "fsq":
            return FiniteScalarQuantizer(self.n_codes, self.codebook_size)
        size = self.n_codes, self.codebook_size, self.code_dim
        return EMAQuantizer(*size, self.gradient, decay=self.decay, restart=self.restart)

    def make_prior(self, n_groups: int) -> CodePrior:
        """The prior of codes, uniform before it is learned."""
        kind = AutoregressiveCodes if self.prior == "autoregressive" else CodePrior
        return kind(self.n_codes, self.codebook_size, n_groups)
