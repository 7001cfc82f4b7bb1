"""What an autoencoder is made of: checked arguments of its constructor, and the parts that they describe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from scpln.model.base import DEEPEST, FLOW, FLOW_HIDDEN, LARGEST_K_MAX, MOST_LATENT, WIDEST, PosteriorName
from scpln.module import FLOWS, LIKELIHOODS, Approximation, Encoder, MLPDecoder, check_flow, make_flow, make_likelihood
from scpln.utils import as_bool, as_integers, as_number, deprecated, one_of, positive_integer, positive_integer_or_none

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scpln.module import Flow, Likelihood

Dispersion = Literal["gene", "gene-batch", "gene-cell"]
#: From what the decoder adds up to log-rates: themselves, or shares of the size factor's total, as scvi-tools has it.
ScaleActivation = Literal["exp", "softmax"]

#: Likelihoods by the names that autoencoders take: the last is deprecated, for Poisson counts whose rates are shares.
CONSTRAINED = "constrained_poisson"
CHOICES = [*LIKELIHOODS, CONSTRAINED]


def resolve_likelihood(
    likelihood: str, scale_activation: ScaleActivation, *, loading: bool = False
) -> tuple[str, ScaleActivation]:
    """Likelihood and activation, where ``"constrained_poisson"`` stands for both; it is warned of unless it was saved.

    Examples
    --------
    >>> resolve_likelihood("constrained_poisson", "exp", loading=True)
    ('poisson', 'softmax')
    >>> resolve_likelihood("nb", "exp")
    ('nb', 'exp')
    """
    if likelihood != CONSTRAINED:
        return likelihood, scale_activation
    if not loading:
        deprecated(f"likelihood={CONSTRAINED!r}", "likelihood='poisson', scale_activation='softmax'")
    return "poisson", "softmax"


@dataclass(frozen=True)
class Architecture:
    """Sizes and choices of an autoencoder; see `CountVAE` for what they mean."""

    n_latent: int
    encoder_hidden: list[int]
    decoder_hidden: list[int]
    likelihood: str
    k_max: int | None
    posterior: PosteriorName
    flow: str | None
    n_transforms: int | None
    flow_hidden: list[int]
    dispersion: Dispersion
    scale_activation: ScaleActivation
    encode_covariates: bool
    dropout_rate: float

    @classmethod
    def of(
        cls,
        *,
        n_latent: int,
        n_hidden: int,
        n_layers: int,
        encoder_hidden: Sequence[int] | None,
        decoder_hidden: Sequence[int] | None,
        likelihood: str,
        k_max: int | None,
        posterior: PosteriorName,
        flow: str | None,
        n_transforms: int | None,
        flow_hidden: Sequence[int] | None,
        dispersion: Dispersion,
        scale_activation: ScaleActivation,
        encode_covariates: bool,
        dropout_rate: float,
    ) -> Self:
        """Check the arguments of a constructor, and fill in what follows from others."""
        one_of("posterior", posterior, get_args(PosteriorName))
        one_of("likelihood", likelihood, list(LIKELIHOODS))
        one_of("dispersion", dispersion, get_args(Dispersion))
        one_of("scale_activation", scale_activation, get_args(ScaleActivation))
        if scale_activation == "softmax" and not LIKELIHOODS[likelihood].is_count:
            msg = (
                f"scale_activation='softmax' makes rates of counts shares of a total, and likelihood={likelihood!r} is for "
                "real values. Leave it out."
            )
            raise ValueError(msg)
        n_hidden = positive_integer("n_hidden", n_hidden, most=WIDEST)
        n_layers = positive_integer("n_layers", n_layers, least=0, most=DEEPEST)
        n_latent = positive_integer("n_latent", n_latent, most=MOST_LATENT)
        for name, value in {"flow": flow, "n_transforms": n_transforms, "flow_hidden": flow_hidden}.items():
            if value is not None and posterior != "flow":
                msg = f"{name}={value!r} needs posterior='flow'."
                raise ValueError(msg)
        if posterior == "flow":
            flow = FLOW if flow is None else flow
            one_of("flow", flow, list(FLOWS))
            check_flow(flow, n_latent)
        if not 0 <= as_number("dropout_rate", dropout_rate) < 1:
            msg = f"dropout_rate={dropout_rate!r}, but it must be at least 0 and less than 1."
            raise ValueError(msg)
        widths = [n_hidden] * n_layers
        decoder = widths
        if decoder_hidden is not None:
            decoder = (
                [] if decoder_hidden in ([], ()) else as_integers("decoder_hidden", decoder_hidden, most=WIDEST) or []
            )
        return cls(
            n_latent=n_latent,
            encoder_hidden=as_integers("encoder_hidden", encoder_hidden, most=WIDEST) or widths or [n_hidden],
            decoder_hidden=decoder,
            likelihood=likelihood,
            k_max=positive_integer_or_none("k_max", k_max, most=LARGEST_K_MAX),
            posterior=posterior,
            flow=flow,
            n_transforms=positive_integer_or_none("n_transforms", n_transforms, most=DEEPEST),
            flow_hidden=as_integers("flow_hidden", flow_hidden, most=WIDEST) or FLOW_HIDDEN,
            dispersion=dispersion,
            scale_activation=scale_activation,
            encode_covariates=as_bool("encode_covariates", encode_covariates),
            dropout_rate=float(dropout_rate),
        )

    @property
    def is_count(self) -> bool:
        """Whether the likelihood is of counts."""
        return LIKELIHOODS[self.likelihood].is_count

    def make_likelihood(self, n_genes: int) -> Likelihood:
        """The likelihood of so many genes."""
        return make_likelihood(self.likelihood, n_genes, k_max=self.k_max)

    def make_decoder(self, likelihood: Likelihood, n_covariates: int, n_batches: int) -> MLPDecoder:
        """The decoder for a likelihood."""
        if self.dispersion != "gene" and not set(likelihood.parameter_names) - set(likelihood.cell_parameter_names):
            msg = (
                f"dispersion={self.dispersion!r} is about parameters besides the rate, of which "
                f"likelihood={self.likelihood!r} has none. Leave it out."
            )
            raise ValueError(msg)
        varying = {name for name in likelihood.parameter_names if self.dispersion != "gene"}
        by_cell = set(likelihood.cell_parameter_names) | (varying if self.dispersion == "gene-cell" else set())
        return MLPDecoder(
            likelihood.n_genes,
            n_covariates,
            self.n_latent,
            hidden=self.decoder_hidden,
            dropout=self.dropout_rate,
            softmax=self.scale_activation == "softmax",
            by_cell=sorted(by_cell),
            by_batch=sorted(varying - by_cell),
            n_batches=n_batches,
            real_values=not self.is_count,
        )

    def encoder_arguments(self, n_genes: int, n_covariates: int, by_entry: bool) -> dict[str, Any]:
        """Arguments of `Encoder` and `ComponentEncoder`."""
        return {
            "n_genes": n_genes,
            "n_covariates": n_covariates,
            "n_latent": self.n_latent,
            "hidden": self.encoder_hidden,
            "diagonal": self.posterior == "meanfield",
            "covariates": self.encode_covariates,
            "dropout": self.dropout_rate,
            "real_values": not self.is_count,
            "by_entry": by_entry,
        }

    def make_flow(self, n_context: int) -> Flow | None:
        """The flow on the encoder's Gaussians, if there is one."""
        if self.flow is None:
            return None
        hidden = self.flow_hidden
        return make_flow(self.flow, self.n_latent, n_context, n_transforms=self.n_transforms, hidden=hidden)

    def make_approximation(self, n_genes: int, n_covariates: int, by_entry: bool) -> Approximation:
        """The encoder, with the flow."""
        encoder = Encoder(**self.encoder_arguments(n_genes, n_covariates, by_entry))
        return Approximation(self.n_latent, encoder, self.make_flow(encoder.n_features))
