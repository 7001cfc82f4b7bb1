"""Share trained models: a directory for the Hugging Face Hub, and back, without pickles.

A model is shared as its safetensors and JSON, with a model card and the metadata of scvi-tools, so that
``scvi.hub.HubModel(directory)`` reads the directory too. What scvi-tools has for its own models is not used where it
cannot be: ``HubMetadata.from_dir`` and ``HubModelCardHelper.from_dir`` unpickle a ``model.pt``, the latter writes cards of
five model classes only, and ``HubModel.pull_from_huggingface_hub`` downloads no other files.

Examples
--------
>>> import tempfile, scpln
>>> adata = scpln.datasets.simulate(n_obs=100, n_vars=30, n_latent=2)
>>> scpln.model.setup_anndata(adata)
>>> model = scpln.model.PLNPCA(adata, n_latent=2)
>>> model.train(progress=False)
>>> directory = tempfile.mkdtemp()
>>> scpln.hub.write(model, directory, license="cc-by-4.0", tissues=["blood"])
>>> scpln.hub.load(directory, adata).get_elbo() == model.get_elbo()
True
"""

from ._directory import load, write
from ._remote import pull, push

__all__ = ["load", "pull", "push", "write"]
