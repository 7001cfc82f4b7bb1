"""A model of somebody else: a class in a file of its own, and a row for it."""

from scpln._catalogue import Entry, Option, Result
from scpln.model import PLNPCA


class Toy(PLNPCA):
    """Gaussians with a bound on how many passes they are found in; it has no choice of likelihoods and posteriors."""

    def __init__(self, adata=None, n_latent=2, *, haste=1, registry=None):
        super().__init__(adata, n_latent, registry=registry)
        self.haste = haste
        self.init_params_ = self._get_init_params(locals())

    def train(self, max_epochs=8, *, seed=0, progress=True):
        """Train for a share of the epochs."""
        super().train(max_epochs // self.haste, seed=seed, progress=progress)


TOY = Entry(
    "toy",
    f"{__name__}.Toy",
    "a model in haste",
    "A model in haste.",
    options=(Option("haste", "how many times faster to be", metavar="N", default=1),),
    defaults={"max_epochs": 8},
    results=(Result(('varm["KEY_loadings"]',), "loadings of every gene"),),
    figures=("loadings",),
)
