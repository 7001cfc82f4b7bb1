"""How a bound is maximised: the closed-form Poisson bound of PLN-PCA and its solver. NumPy only; no AnnData."""

from ._bound import elbo
from ._data import CountData
from ._fit import FitResult, fit
from ._gaussian import Posterior
from ._infer import infer

__all__ = ["CountData", "FitResult", "Posterior", "elbo", "fit", "infer"]
