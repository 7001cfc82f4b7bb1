"""Choices that several models have, and what they are unless the user says otherwise."""

from __future__ import annotations

from typing import Literal

#: Family of the posteriors: Gaussians with any covariance, with a diagonal one, or a normalizing flow on the former.
PosteriorName = Literal["fullrank", "meanfield", "flow"]
#: Flow, and widths of the hidden layers of its networks.
FLOW, FLOW_HIDDEN = "sylvester", [64, 64]
