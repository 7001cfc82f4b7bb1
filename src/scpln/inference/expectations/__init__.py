"""Expectations under Gaussians: in closed form, and by quadrature."""

from ._quadrature import Deviations, Expectation, Quadrature, read_parameters, torch_dtype, write_parameters
from ._rules import MAX_LOG_RATE, Expectations, expectations_of

__all__ = [
    "MAX_LOG_RATE",
    "Deviations",
    "Expectation",
    "Expectations",
    "Quadrature",
    "expectations_of",
    "read_parameters",
    "torch_dtype",
    "write_parameters",
]
