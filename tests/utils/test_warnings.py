"""Warnings name what to change, and point at the user's line."""

import warnings

import numpy as np
import pytest

import scpln


@pytest.fixture
def adata():
    adata = scpln.datasets.simulate(60, 20, n_latent=2, density=0.5)
    adata.obs["kind"] = np.where(np.arange(60) < 30, "a", "b")
    return adata


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"n_steps": 10}, "train(n_steps=...)"),
        ({"n_samples": 2, "learning_rate": 0.1}, "train(n_samples=..., learning_rate=...)"),
        ({"reestimate": False}, "train(reestimate=...)"),
    ],
)
def test_arguments_of_stochastic_training_without_any(adata, arguments, named):
    scpln.model.setup_anndata(adata)
    model = scpln.model.PLNPCA(adata, n_latent=2)
    with pytest.warns(UserWarning, match="has no effect") as found:
        model.train(max_epochs=2, progress=False, **arguments)
    (warning,) = found
    assert named in str(warning.message)
    assert warning.filename == __file__


def test_no_warning_where_they_have_an_effect(adata):
    scpln.model.setup_anndata(adata)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        scpln.model.PLNPCA(adata, n_latent=2).train(max_epochs=2, progress=False)
        model = scpln.model.PLNPCA(adata, n_latent=2, amortized=True)
        model.train(max_epochs=2, n_steps=3, learning_rate=0.01, progress=False)
        scpln.model.PLNPCA(adata, n_latent=2).train(
            max_epochs=2, n_steps=3, n_importance_samples=2, reestimate=False, progress=False
        )


def test_one_call_functions_point_at_the_users_line_too(adata):
    adata.X = adata.X.toarray()
    adata.X[:, 0] = 0
    with pytest.warns(UserWarning, match="genes in adata.X have no counts") as found:
        scpln.tl.plnpca(adata, n_latent=2, max_epochs=2, progress=False)
    assert {warning.filename for warning in found if "no counts" in str(warning.message)} == {__file__}


@pytest.mark.filterwarnings("ignore:No AnnData")
def test_a_labelled_model_trained_again_without_labels(adata, tmp_path):
    scpln.model.setup_anndata(adata, labels_key="kind")
    model = scpln.model.CountGMVAE(adata, n_latent=2, n_hidden=8)
    training = {"max_epochs": 1, "start": "random", "progress": False}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.train(**training)
    model.save(tmp_path / "model")
    bare = adata.copy()
    del bare.obs["kind"]
    again = scpln.model.CountGMVAE.load(tmp_path / "model", adata=bare)
    with pytest.warns(UserWarning, match=r"adata.obs\['kind'\].*trained without labels.*setup_anndata"):
        again.train(**training)
