from functools import wraps

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.stats as st

import scpln
from scpln.model import PLNPCA, CountGMVAE, CountVAE

QUICK = {"max_epochs": 3, "n_threads": 1}


@pytest.fixture
def adata():
    adata = scpln.datasets.simulate(120, 20, n_latent=2, n_batches=2, density=0.5)
    adata.layers["raw"] = adata.X.copy()
    adata.X = None
    scpln.model.setup_anndata(adata, layer="raw", batch_key="batch", size_factor_key="size_factor")
    return adata


def search(model_class, adata, space, **more):
    return scpln.tune.search(model_class, adata, space, **{"train": QUICK, "progress": False, **more})


def fitted(adata, held_out, model_class=PLNPCA, train=QUICK, **parameters):
    """The same by hand: a model of the cells that are not held out, and the bound of each that is."""
    rest = np.setdiff1d(np.arange(adata.n_obs), held_out)
    part = adata[rest].copy()
    keys = {"layer": "raw", "batch_key": "batch", "size_factor_key": "size_factor"}
    model_class.setup_anndata(part, **keys, source_registry=model_class(adata).registry)
    model = model_class(part, **parameters)
    model.train(seed=0, progress=False, **train)
    return model


@pytest.mark.parametrize("metric", ["elbo", "iw_bound"])
def test_ranked_by_the_bound_of_cells_that_no_trial_saw(adata, metric):
    before = repr(adata)
    space = {"n_latent": [1, 2], "likelihood": ["poisson", "nb"]}
    found = search(PLNPCA, adata, space, metric=metric, n_samples=20)
    assert repr(adata) == before
    assert len(found.held_out) == 12
    table = found.results
    assert list(table.index.sort_values()) == [0, 1, 2, 3]
    assert list(table.columns[:2]) == ["n_latent", "likelihood"]
    assert table["bound"].is_monotonic_decreasing
    assert (table["failure"] == "").all()
    scores = {}
    for number, row in table.iterrows():
        model = fitted(adata, found.held_out, n_latent=row["n_latent"], likelihood=row["likelihood"])
        arguments = {"return_mean": False, **({} if metric == "elbo" else {"n_samples": 20, "seed": 0})}
        scores[number] = getattr(model, f"get_{metric}")(adata, found.held_out, **arguments)
        assert row["bound"] == pytest.approx(scores[number].mean(), abs=1e-6)
        assert row["standard_error"] == pytest.approx(st.sem(scores[number]), abs=1e-6)
    best = scores[table.index[0]]
    for number, row in table.iterrows():
        assert row["behind"] == pytest.approx((best - scores[number]).mean(), abs=1e-6)
        assert row["behind_error"] == pytest.approx(st.sem(best - scores[number]), abs=1e-6)
    assert found.best == table.iloc[0][["n_latent", "likelihood"]].to_dict()

    model = found.best_model
    assert not set(adata.obs_names[found.held_out]) & set(model.adata.obs_names)
    assert model.adata.n_obs == 108
    assert model.get_elbo(adata, found.held_out) == pytest.approx(fitted(adata, found.held_out, **found.best).get_elbo(adata, found.held_out), abs=1e-6)  # fmt: skip
    model.annotate(adata, diagnostics=False)
    assert adata.obsm["X_plnpca"].shape == (120, found.best["n_latent"])


def test_arguments_of_training_and_of_the_constructor(adata):
    train = {"start": "random", **QUICK}
    space = {"learning_rate": [1e-4, 1e-2], "n_hidden": 8, "n_latent": [2]}
    found = search(CountVAE, adata, space, train=train)
    assert found.best["n_hidden"] == 8
    rate = found.best["learning_rate"]
    assert found.best_model.training_["learning_rate"] == rate
    by_hand = fitted(adata, found.held_out, CountVAE, {**train, "learning_rate": rate}, n_latent=2, n_hidden=8)
    assert found.results["bound"].iloc[0] == pytest.approx(by_hand.get_elbo(adata, found.held_out))
    assert found.results["bound"].nunique() == 2


def test_numbers_of_components(adata):
    train = {"start": "random", **QUICK}
    space = {"n_components": [2, 3], "encoder_hidden": [[8], [8, 4]], "n_hidden": 8, "n_latent": 2}
    found = search(CountGMVAE, adata, space, train=train)
    assert len(found.results) == 4
    assert [8, 4] in found.results["encoder_hidden"].to_list()
    assert found.best_model.get_cluster_probabilities().shape[1] == found.best["n_components"]


def test_random_choices(adata):
    space = {"n_latent": [1, 2, 3, 4], "likelihood": ["poisson", "nb"]}
    numbers = [search(PLNPCA, adata, space, n_trials=3, seed=seed).results.sort_index() for seed in (0, 0, 1)]
    chosen = [table[["n_latent", "likelihood"]].to_numpy().tolist() for table in numbers]
    assert chosen[0] == chosen[1] != chosen[2]
    assert len(set(map(tuple, chosen[0]))) == 3
    assert len(search(PLNPCA, adata, {"n_latent": [1, 2]}, n_trials=9).results) == 2
    drawn = search(PLNPCA, adata, {"n_latent": st.randint(1, 5), "tol": st.uniform(0.1, 1)}, n_trials=3).results
    assert drawn["n_latent"].between(1, 4).all()
    assert drawn["tol"].nunique() == 3


def test_a_failed_trial_does_not_end_the_search(adata):
    found = search(PLNPCA, adata, {"n_latent": [500, 2], "likelihood": ["poisson"]})
    assert found.results.index.to_list() == [1, 0]
    assert found.results["failure"][0].startswith("ValueError: n_latent=500, but it can be at most 20")
    assert np.isnan(found.results["bound"][0])
    assert found.best == {"n_latent": 2, "likelihood": "poisson"}
    assert "2 trials, 1 failed, elbo of 12 held-out cells, nats per cell, given the size factors" in repr(found)


def test_all_fail(adata):
    found = search(PLNPCA, adata, {"n_latent": [500, 600]})
    assert len(found.results) == 2
    assert "2 failed" in repr(found)
    for name in ("best", "best_model"):
        with pytest.raises(RuntimeError, match="None of 2 trials succeeded"):
            getattr(found, name)


def test_bounds_that_are_not_finite_are_failures(adata, monkeypatch):
    monkeypatch.setattr(PLNPCA, "get_elbo", lambda *_args, **_kwargs: np.full(12, np.nan))
    found = search(PLNPCA, adata, {"n_latent": [1]})
    assert "of 12 held-out cells is not finite" in found.results["failure"][0]


@pytest.mark.parametrize("raised", [True, False])
def test_interrupted(adata, monkeypatch, raised):
    train = PLNPCA.train

    @wraps(train)
    def interrupted(self, **more):
        train(self, **more)
        if self.n_latent == 2:
            if raised:
                raise KeyboardInterrupt
            self.training_["reason"] = "interrupted after 1 iteration"

    monkeypatch.setattr(PLNPCA, "train", interrupted)
    found = search(PLNPCA, adata, {"n_latent": [1, 2, 3]})
    assert found.interrupted
    assert found.results["failure"].to_list() == ["", "interrupted"]
    assert found.best == {"n_latent": 1}


def test_held_out_cells(adata):
    chosen = search(PLNPCA, adata, {"n_latent": [1]}, held_out=[5, 3, 3, -1]).held_out
    np.testing.assert_array_equal(chosen, [3, 5, 119])
    mask = np.arange(120) < 7
    np.testing.assert_array_equal(search(PLNPCA, adata, {"n_latent": [1]}, held_out=mask).held_out, np.arange(7))
    again = [search(PLNPCA, adata, {"n_latent": [1]}, held_out=0.25, seed=seed).held_out for seed in (1, 1, 2)]
    np.testing.assert_array_equal(again[0], again[1])
    assert len(again[0]) == 30
    assert set(again[0]) != set(again[2])


def test_a_category_that_only_held_out_cells_have(adata):
    adata.obs["batch"] = np.where(np.arange(120) == 4, "rare", adata.obs["batch"].astype(str))
    scpln.model.setup_anndata(adata, layer="raw", batch_key="batch")
    found = search(PLNPCA, adata, {"n_latent": [1]}, held_out=[4, 5])
    assert np.isfinite(found.results["bound"]).all()


def test_offsets_and_masks(adata):
    """In a layer and in a data frame; a bound is that of the observed entries of cells that were held out."""
    random = np.random.default_rng(0)
    adata.layers["seen"] = random.random(adata.shape) > 0.2
    adata.obsm["offset"] = pd.DataFrame(random.normal(size=adata.shape), adata.obs_names, adata.var_names)
    keys = {"layer": "raw", "offset_key": "offset", "mask_key": "seen"}
    scpln.model.setup_anndata(adata, **keys)
    found = search(PLNPCA, adata, {"n_latent": [1]}, held_out=np.arange(30))
    part = adata[30:].copy()
    PLNPCA.setup_anndata(part, **keys, source_registry=PLNPCA(adata).registry)
    model = PLNPCA(part, n_latent=1)
    model.train(seed=0, progress=False, **QUICK)
    assert found.results["bound"][0] == pytest.approx(model.get_elbo(adata, np.arange(30)), rel=1e-6)


def test_data_on_disk(adata, tmp_path):
    adata.X = adata.layers["raw"].copy()
    for name in [name for name in adata.uns if name.startswith("_scvi")]:
        del adata.uns[name]
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    bounds = []
    for each in (backed, adata):
        scpln.model.setup_anndata(each)
        bounds.append(search(PLNPCA, each, {"n_latent": [2]}).results["bound"][0])
    assert bounds[0] == pytest.approx(bounds[1], abs=1e-6)


@pytest.mark.parametrize(
    ("model_class", "space", "more", "message"),
    [
        (CountVAE, {"size_factors": [True, False]}, {}, "Run a search for each"),
        (CountVAE, {"likelihood": ["nb", "bernoulli"]}, {}, "cannot be compared"),
        (
            CountVAE,
            {"n_latents": [2]},
            {},
            "the constructor or train of CountVAE does not take. Did you mean 'n_latent'",
        ),
        (PLNPCA, {"n_hidden": [2]}, {}, "'n_hidden', which the constructor or train of PLNPCA does not take"),
        (PLNPCA, {"n_latent": []}, {}, "no values for 'n_latent'"),
        (PLNPCA, {"n_latent": [2]}, {"train": {"n_latent": 3}}, "'n_latent', which train of PLNPCA does not take"),
        (PLNPCA, {"tol": [0.1]}, {"train": {"tol": 1}}, "'tol' is in space and in train"),
        (PLNPCA, {"n_latent": st.randint(1, 3)}, {}, r"\['n_latent'\] are distributions"),
        (PLNPCA, {"n_latent": [2]}, {"n_trials": 0}, "n_trials=0"),
        (PLNPCA, {"n_latent": [2]}, {"metric": "loss"}, "metric='loss'"),
        (PLNPCA, {"n_latent": [2]}, {"held_out": 0.0}, r"held_out=0.0 of 120 cells"),
        (PLNPCA, {"n_latent": [2]}, {"held_out": 1.0}, "held_out=1.0"),
        (PLNPCA, {"n_latent": [2]}, {"held_out": 0.001}, "held_out=0.001"),
        (PLNPCA, {"n_latent": [2]}, {"held_out": np.ones(120, bool)}, "none are left to train on"),
    ],
)
def test_what_is_refused(adata, model_class, space, more, message):
    with pytest.raises(ValueError, match=message):
        search(model_class, adata, space, **more)


def test_data_that_are_not_set_up(adata):
    with pytest.raises(ValueError, match="not set up"):
        search(PLNPCA, adata.copy(), {"n_latent": [2]})


def test_progress(adata, capsys, monkeypatch):
    monkeypatch.setattr("scpln.utils._progress._is_watched", lambda: True)
    search(PLNPCA, adata, {"n_latent": [1, 2]}, progress=True)
    shown = capsys.readouterr().err
    assert "Search over PLNPCA" in shown
    assert "2/2" in shown
    assert "nats per cell" in shown
