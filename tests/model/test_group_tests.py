"""Tests of groups' means, by every model and without one: tables, designs, samples, clusters, and what is refused."""

import re

import anndata as ad
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

import scpln
from scpln.model import PLNPCA, setup_anndata, setup_mudata

from .every_model import COMPARED, make_adata, trained

COLUMNS = [
    *("group", "reference", "names", "scores", "logfoldchanges", "pvals", "pvals_adj", "s_values"),
    *("logfoldchanges_sd", "logfoldchanges_estimate", "logfoldchanges_se", "n_group", "n_reference"),
]


@pytest.fixture(scope="module")
def donors():
    """Two conditions of three donors each, in two clusters; the first three genes change in cluster x only."""
    rng = np.random.default_rng(0)
    n, p = 360, 60
    obs = pd.DataFrame({"donor": np.arange(n) % 6, "cluster": np.repeat(["x", "y"], n // 2)}, index=map(str, range(n)))
    obs["condition"] = np.where(obs["donor"] < 3, "stim", "ctrl")
    obs["sex"] = np.where(obs["donor"] % 3 == 0, "f", "m")
    eta = rng.normal(1, 0.5, p) + rng.normal(0, 0.25, (6, p))[obs["donor"]] + rng.normal(0, 0.2, (n, 1))
    eta[:, :3] += 2.0 * ((obs["condition"] == "stim") & (obs["cluster"] == "x")).to_numpy()[:, None]
    return ad.AnnData(rng.poisson(np.exp(eta)).astype(np.float32), obs=obs)


def ranked(adata, *args, **options):
    scpln.tl.rank_genes(adata, *args, **options)
    found = adata.uns["rank_genes_groups"]
    return {group: pd.Series(found["pvals"][group], found["names"][group]) for group in found["names"].dtype.names}


@pytest.mark.parametrize("kind", COMPARED)
def test_every_model_gives_a_table_and_leaves_no_trace(kind):
    model = trained(kind)
    obs, uns = model.adata.obs.copy(), set(model.adata.uns)
    table = model.test_groups(groupby="group")
    assert table.columns.tolist() == COLUMNS
    assert table.groupby("group").size().to_dict() == {"a": 14, "b": 14}
    numbers = table.select_dtypes("number").drop(columns="logfoldchanges_se")
    assert np.isfinite(numbers).all(axis=None)
    assert table["pvals"].between(0, 1).all()
    assert table["s_values"].between(0, 1).all()
    assert (table["pvals_adj"] >= table["pvals"]).all()
    for _, own in table.groupby("group"):
        assert own["scores"].is_monotonic_decreasing
        assert set(own["names"]) == set(model.genes)
    first, second = (table[table["group"] == name].set_index("names") for name in "ab")
    np.testing.assert_allclose(first["scores"], -second["scores"][first.index], atol=1e-3)
    pd.testing.assert_frame_equal(model.adata.obs, obs)
    assert set(model.adata.uns) == uns


@pytest.mark.parametrize("kind", ["PLNPCA, poisson", "CountVAE, gaussian"])
def test_it_is_the_same_without_a_model_and_on_disk(kind, tmp_path):
    model = trained(kind)
    real = not model.is_count_data
    table = model.test_groups(groupby="group", group1="a", group2="b").set_index("names")
    adata = model.adata.copy()
    found = ranked(
        adata,
        "group",
        groups=["a"],
        reference="b",
        batch_key="batch",
        layer="log" if real else None,
        is_count_data=not real,
    )
    pd.testing.assert_series_equal(found["a"], table["pvals"], check_names=False)
    found = ranked(adata, "group", groups=["a"], reference="b", model=model)
    pd.testing.assert_series_equal(found["a"], table["pvals"], check_names=False)
    adata.write_h5ad(tmp_path / "counts.h5ad")
    backed = ad.read_h5ad(tmp_path / "counts.h5ad", backed="r")
    on_disk = model.test_groups(backed, groupby="group", group1="a", group2="b").set_index("names")
    np.testing.assert_allclose(on_disk["pvals"][table.index], table["pvals"], rtol=1e-6)
    turned = model.test_groups(adata[::-1, ::-1].copy(), groupby="group", group1="a", group2="b").set_index("names")
    np.testing.assert_allclose(turned["scores"][table.index], table["scores"], atol=1e-4)


def test_batches_and_covariates_are_held(donors):
    """A batch that is more frequent in one group looks like an effect unless it is in the design."""
    rng = np.random.default_rng(1)
    adata = make_adata(300, 60)
    batch = rng.random(300) < np.where(np.arange(300) < 150, 0.2, 0.8)
    counts = rng.poisson(np.exp(rng.normal(0.5, 0.5, 60) + np.outer(batch, rng.normal(0, 0.7, 60))))
    obs = pd.DataFrame({"half": np.repeat(["first", "second"], 150), "batch": batch.astype(str)}, index=adata.obs_names)
    adata = ad.AnnData(counts.astype(np.float32), obs=obs)
    without, held = ranked(adata.copy(), "half")["first"], ranked(adata.copy(), "half", batch_key="batch")["first"]
    assert (without < 0.05).mean() > 0.3
    assert (held < 0.05).mean() < 0.15
    left_out = ranked(adata.copy(), "half", batch_key="batch", covariate_keys=[])["first"]
    pd.testing.assert_series_equal(left_out, without)
    own = ranked(adata.copy(), "batch", batch_key="batch")["True"]
    pd.testing.assert_series_equal(own, ranked(adata.copy(), "batch")["True"])


def test_samples_are_what_varies(donors):
    cells = ranked(donors.copy(), "condition", groups=["stim"], reference="ctrl")["stim"]
    samples = ranked(donors.copy(), "condition", groups=["stim"], reference="ctrl", sample_key="donor")["stim"]
    null = samples.index[~samples.index.isin(["0", "1", "2"])]
    assert (cells[null] < 0.05).mean() > 0.3
    assert (samples[null] < 0.05).mean() < 0.15
    assert samples[["0", "1", "2"]].max() < 0.05
    setup_anndata(donors, categorical_covariate_keys=["sex"])
    model = PLNPCA(donors, n_latent=2)
    model.train(max_epochs=3, progress=False)
    table = model.test_groups(groupby="condition", group1="stim", sample_key="donor")
    assert set(table["n_group"]) == set(table["n_reference"]) == {3}


def test_samples_in_both_groups_are_compared_with_themselves(donors):
    """Donors differ much, and in both clusters alike; clusters differ in nothing."""
    paired = ranked(donors.copy(), "cluster", groups=["x"], sample_key="donor")["x"]
    assert (paired.drop(["0", "1", "2"]) < 0.05).mean() < 0.15
    adata = donors.copy()
    adata.X[(adata.obs["cluster"] == "x").to_numpy(), 9] *= 2
    adata.obs["apart"] = adata.obs["cluster"] + adata.obs["donor"].astype(str)
    paired, apart = (ranked(adata, "cluster", groups=["x"], sample_key=key)["x"] for key in ("donor", "apart"))
    assert paired["9"] < 1e-3 < 2 * paired["9"] < apart["9"]


def test_conditions_within_clusters(donors):
    adata = donors.copy()
    found = ranked(adata, "condition", groups=["stim"], reference="ctrl", within="cluster", sample_key="donor")
    assert list(found) == ["x: stim", "y: stim"]
    assert found["x: stim"][["0", "1", "2"]].max() < 0.05
    assert found["y: stim"][["0", "1", "2"]].min() > 0.01
    alone = ranked(
        donors[donors.obs["cluster"] == "x"].copy(), "condition", groups=["stim"], reference="ctrl", sample_key="donor"
    )
    np.testing.assert_allclose(found["x: stim"], alone["stim"][found["x: stim"].index], rtol=1e-2)


def test_small_groups_are_named(donors):
    adata = donors.copy()
    adata.obs["kind"] = np.where(np.arange(adata.n_obs) < 2, "rare", adata.obs["condition"])
    with pytest.warns(
        UserWarning, match=r"1 of 3 comparisons of adata.obs\['kind'\].*'rare' and 'rest': 2 and 358 cells"
    ):
        assert set(ranked(adata, "kind")) == {"ctrl", "stim"}
    with pytest.raises(ValueError, match="Too few to compare 'rare' and 'rest': 2 and 358 cells"):
        ranked(adata, "kind", groups=["rare"])
    ranked(adata, "kind", groups=["rare"], min_cells=2)
    adata.obs["one"] = np.where(adata.obs["condition"] == "stim", "all", adata.obs["donor"].astype(str))
    with pytest.raises(
        ValueError, match=r"Too few to compare 'ctrl' and 'stim': 3 and 1 samples.*one sample does not say it"
    ):
        ranked(adata, "condition", groups=["ctrl"], reference="stim", sample_key="one")


def test_states_explain_what_varies():
    """Two random halves of cells that vary along one dimension: holding it, small differences are found, and no more false ones."""
    rng = np.random.default_rng(2)
    z, side = rng.normal(size=(300, 1)), np.arange(300) % 2
    effect = np.where(np.arange(150) < 15, 0.35, 0.0)
    counts = rng.poisson(np.exp(1.5 + z @ rng.normal(0, 0.7, (1, 150)) + np.outer(side, effect)))
    adata = ad.AnnData(
        counts.astype(np.float32), obs=pd.DataFrame({"half": side.astype(str)}, index=map(str, range(300)))
    )
    adata.obs["size"] = 1.0
    setup_anndata(adata, size_factor_key="size")
    model = PLNPCA(adata, n_latent=1)
    model.train(max_epochs=30, progress=False)
    power, false = {}, {}
    for held in (False, True):
        table = model.test_groups(groupby="half", group1="1", adjust_for_state=held).set_index("names")
        called = table["pvals_adj"] < 0.05
        changed = table.index.astype(int) < 15
        power[held], false[held] = called[changed].mean(), (table["pvals"][~changed] < 0.05).mean()
    assert power[True] > power[False] + 0.2
    assert false[True] < 0.1


def test_what_is_refused(donors):
    model = trained("PLNPCA, poisson")
    cases = {
        "Say which groups to test": {},
        "covariate_keys names ['age'], which": {"groupby": "group", "covariate_keys": ["age"]},
        "'group' is groupby and within at once": {"groupby": "group", "within": "group"},
        "14 genes are too few": {"groupby": "batch", "adjust_for_state": True},
        "holds the states of cells": {"groupby": "group", "adjust_for_state": True, "sample_key": "batch"},
        "min_cells=0": {"groupby": "group", "min_cells": 0},
        "'c' is not a group": {"groupby": "group", "group1": "c"},
    }
    for message, arguments in cases.items():
        with pytest.raises(ValueError, match=re.escape(message)):
            model.test_groups(**arguments)
    with pytest.raises(ValueError, match="is for counts"):
        trained("PLNPCA, gaussian").test_groups(groupby="group", adjust_for_state=True)
    with pytest.raises(TypeError, match="composition='no'"):
        model.test_groups(groupby="group", composition="no")
    adata = donors.copy()
    with pytest.raises(ValueError, match=r"cannot be told from the covariates"):
        scpln.tl.rank_genes(adata, "condition", categorical_covariate_keys=["donor"])
    with pytest.raises(
        ValueError, match=r"Too few samples to compare 'stim' and 'ctrl': 6, and besides.*covariate_keys"
    ):
        adata.obs[["u", "v", "w"]] = np.random.default_rng(0).normal(size=(adata.n_obs, 3))
        keys = {"continuous_covariate_keys": ["u", "v", "w"], "categorical_covariate_keys": ["sex"]}
        scpln.tl.rank_genes(adata, "condition", groups=["stim"], reference="ctrl", sample_key="donor", **keys)
    with pytest.raises(ValueError, match="a model gives"):
        scpln.tl.rank_genes(adata, "condition", adjust_for_state=True)
    with pytest.raises(ValueError, match=r"\['layer'\] have no effect"):
        scpln.tl.rank_genes(adata, "condition", model=model, layer="counts")
    with pytest.raises(TypeError, match="model must be a model"):
        scpln.tl.rank_genes(adata, "condition", model=3)
    mdata = scpln.datasets.simulate_multimodal(40, {"rna": 10, "prot": 5}, density={"prot": 0.9})
    setup_mudata(mdata, modalities=["rna", "prot"])
    joint = PLNPCA(mdata, n_latent=1)
    joint.train(max_epochs=2, progress=False)
    with pytest.raises(ValueError, match=r"several modalities.*scpln.tl.rank_genes\(mdata\['rna'\]"):
        joint.test_groups(groupby="batch")


@pytest.mark.filterwarnings("ignore:.*:FutureWarning")
def test_scanpy_reads_what_is_written(donors, tmp_path):
    adata = donors.copy()
    assert (
        scpln.tl.rank_genes(adata, "condition", key_added="mine", copy=True).uns["mine"]["params"]["groupby"]
        == "condition"
    )
    assert "mine" not in adata.uns
    scpln.tl.rank_genes(adata, "condition", reference="ctrl")
    scpln.tl.rank_genes(adata, "condition", within="cluster", key_added="within")
    logs = adata.copy()
    sc.pp.normalize_total(logs)
    sc.pp.log1p(logs)
    sc.tl.rank_genes_groups(logs, "condition", reference="ctrl")
    known, ours = logs.uns["rank_genes_groups"], adata.uns["rank_genes_groups"]
    for name in known:
        if name != "params":
            assert ours[name].dtype.names == known[name].dtype.names == ("stim",)
            assert ours[name].dtype == known[name].dtype
    assert set(ours["params"]) == set(known["params"])
    assert set(ours["names"]["stim"][:3]) == {"0", "1", "2"} == set(known["names"]["stim"][:3])
    table = sc.get.rank_genes_groups_df(adata, group="stim", pval_cutoff=0.05, log2fc_min=0.5)
    assert table["names"].head(3).isin(["0", "1", "2"]).all()
    adata.write_h5ad(tmp_path / "ranked.h5ad")
    read = ad.read_h5ad(tmp_path / "ranked.h5ad")
    for key, group in (("rank_genes_groups", "stim"), ("within", "x: stim")):
        expected = sc.get.rank_genes_groups_df(adata, group=group, key=key)
        pd.testing.assert_frame_equal(sc.get.rank_genes_groups_df(read, group=group, key=key), expected)
    mpl.use("Agg")
    for key in ("rank_genes_groups", "within"):
        sc.pl.rank_genes_groups(read, key=key, show=False)
        sc.pl.rank_genes_groups_dotplot(read, n_genes=3, key=key, dendrogram=False, show=False)
    scpln.tl.rank_genes(read, "condition")
    sc.pl.rank_genes_groups_dotplot(read, dendrogram=False, values_to_plot="logfoldchanges", show=False)
    plt.close("all")
