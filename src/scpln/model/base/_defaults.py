"""Choices that several models have, and what they are unless the user says otherwise."""

from __future__ import annotations

from typing import Literal

#: Family of the posteriors: Gaussians with any covariance, with a diagonal one, or a normalizing flow on the former.
PosteriorName = Literal["fullrank", "meanfield", "flow"]
#: Flow, and widths of the hidden layers of its networks.
FLOW, FLOW_HIDDEN = "sylvester", [64, 64]
#: Widths of the hidden layers of an encoder.
ENCODER_HIDDEN = [128, 128]
#: Limits, far beyond what is of use, at which memory or minutes would go without a word: widths of hidden layers; layers, or
#: transforms of a flow; latent dimensions of networks, whose posteriors have their square of numbers; and categories.
WIDEST, DEEPEST, MOST_LATENT, LARGEST_K_MAX = 65_536, 100, 500, 500
