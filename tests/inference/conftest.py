import numpy as np
import pytest
import scipy.sparse as sp

from scpln.inference import CountData


def draw(n: int, p: int, q: int, d: int = 1, *, seed: int = 0, level: float = 0.5) -> tuple[CountData, dict]:
    """PLN-PCA counts with d covariates (an intercept and d - 1 Gaussian ones), and what they were drawn from."""
    random = np.random.default_rng(seed)
    design = np.column_stack([np.ones(n), random.standard_normal((n, d - 1))])
    coefficients = 0.5 * random.standard_normal((p, d))
    coefficients[:, 0] += level
    loadings = random.standard_normal((p, q)) * np.linspace(0.8, 0.3, q)
    latent = random.standard_normal((n, q))
    offsets = 0.3 * random.standard_normal(n)
    log_rates = offsets[:, None] + design @ coefficients.T + latent @ loadings.T
    counts = sp.csr_matrix(random.poisson(np.exp(log_rates)))
    truth = {"coefficients": coefficients, "loadings": loadings, "latent": latent}
    return CountData(counts, offsets, design), truth


def subspace_angle(a: np.ndarray, b: np.ndarray) -> float:
    """Largest principal angle between two column spaces, degrees."""
    from scipy.linalg import subspace_angles

    return float(np.degrees(subspace_angles(a, b).max()))


@pytest.fixture(scope="session")
def small() -> CountData:
    return draw(200, 40, 3, 2)[0]
