"""Differential expression of every model: scvi-tools' table, against exact probabilities and simulated truth."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from anndata import AnnData, read_h5ad
from scipy.stats import norm

import scpln
from scpln.model import PLNPCA, CountGMVAE, CountVAE, setup_anndata

from .every_model import COMPARED, make_adata, trained

QUICK = {"silent": True, "n_samples_overall": 200}
COLUMNS = {"proba_de", "bayes_factor", "scale1", "scale2", "lfc_mean", "lfc_median", "lfc_std", "is_de_fdr_0.05"}


@pytest.mark.parametrize("kind", COMPARED)
def test_every_model_gives_scvis_table_and_leaves_no_trace(kind):
    model = trained(kind)
    adata = model.adata
    obs, uns = adata.obs.copy(), set(adata.uns)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    states = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    table = model.differential_expression(groupby="group", group1="a", group2="b", **QUICK)
    assert set(table) >= COLUMNS
    assert set(table.index) == set(model.genes)
    assert np.isfinite(table.select_dtypes("number")).all(axis=None)
    assert table["proba_de"].is_monotonic_decreasing
    assert (table["comparison"] == "a vs b").all()
    np.testing.assert_array_equal(np.random.get_state()[1], states[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[1])
    pd.testing.assert_frame_equal(adata.obs, obs)
    assert set(adata.uns) == uns
    rates = model.get_normalized_expression(n_samples=200)
    means = rates.groupby(adata.obs["group"].to_numpy()).mean().loc["a", table.index]
    np.testing.assert_allclose(table["scale1"], means, rtol=0.5, atol=0.2)


@pytest.mark.parametrize("kind", ["PLNPCA, poisson", "PLNPCA, gaussian", "CountVAE", "CountGMVAE"])
def test_a_seed_repeats_it_whatever_the_global_numbers(kind):
    model = trained(kind)
    arguments = {"groupby": "group", "use_permutation": True, "filter_outlier_cells": True, **QUICK}
    first = model.differential_expression(seed=1, **arguments)
    np.random.seed(9)  # noqa: NPY002
    pd.testing.assert_frame_equal(model.differential_expression(seed=1, **arguments), first)
    assert not model.differential_expression(seed=2, **arguments)["lfc_mean"].equals(first["lfc_mean"])


@pytest.mark.parametrize("kind", ["PLNPCA, nb", "PLNPCA, flow", "CountVAE"])
def test_cells_whose_posteriors_have_to_be_inferred(kind):
    """Other objects with the same cells: scvi-tools asks for rates where torch keeps nothing for derivatives."""
    model = trained(kind)
    arguments = {"groupby": "group", "group1": "a", "seed": 0, **QUICK}
    again, stored = (model.differential_expression(adata, **arguments) for adata in (model.adata.copy(), None))
    np.testing.assert_allclose(again["scale1"].reindex(stored.index), stored["scale1"], rtol=0.05, atol=0.02)


def test_groups_and_cells_say_the_same(tmp_path):
    model = trained("PLNPCA, poisson")
    adata = model.adata
    mask = (adata.obs["group"] == "a").to_numpy()
    by_group = model.differential_expression(groupby="group", group1="a", seed=0, **QUICK)
    numbers = [column for column in by_group if by_group[column].dtype.kind in "fb"]
    for idx1, idx2 in [(mask, ~mask), (np.flatnonzero(mask), None), ("group == 'a'", "group == 'b'")]:
        by_cells = model.differential_expression(idx1=idx1, idx2=idx2, seed=0, **QUICK)
        pd.testing.assert_frame_equal(by_cells[numbers], by_group[numbers])
    everything = model.differential_expression(groupby="group", **QUICK)
    assert list(dict.fromkeys(everything["comparison"])) == ["a vs Rest", "b vs Rest"]
    other = model.differential_expression(adata[:, ::-1].copy(), groupby="group", group1="a", seed=0, **QUICK)
    assert np.corrcoef(other.loc[by_group.index, "lfc_mean"], by_group["lfc_mean"])[0, 1] > 0.99
    adata.write_h5ad(tmp_path / "counts.h5ad")
    backed = read_h5ad(tmp_path / "counts.h5ad", backed="r")
    on_disk = model.differential_expression(backed, groupby="group", group1="a", seed=0, **QUICK)
    np.testing.assert_allclose(on_disk.loc[by_group.index, "raw_mean1"], by_group["raw_mean1"], rtol=1e-6)


def two_conditions(n_obs=500, n_vars=40, seed=0):
    """Counts of a linear model: a quarter of the genes change by the condition, all vary along one latent dimension."""
    rng = np.random.default_rng(seed)
    condition, z = np.arange(n_obs) % 2, rng.normal(size=(n_obs, 1))
    effect = np.zeros(n_vars)
    effect[: n_vars // 4] = rng.choice([-1, 1], n_vars // 4) * rng.uniform(1.2, 2, n_vars // 4)
    loadings = rng.normal(scale=0.15, size=(n_vars, 1))
    log_rates = rng.normal(1.2, 0.5, n_vars) + np.outer(condition, effect) + z @ loadings.T
    sizes = rng.normal(scale=0.3, size=n_obs)
    adata = AnnData(sp.csr_matrix(rng.poisson(np.exp(log_rates + sizes[:, None]))))
    adata.var_names = [f"gene_{j}" for j in range(n_vars)]
    adata.obs_names = [f"cell_{i}" for i in range(n_obs)]
    adata.obs["condition"] = np.where(condition == 1, "treated", "control")
    adata.obs["size"] = np.exp(sizes)
    adata.uns["log_rates"], adata.var["effect"] = log_rates, effect
    return adata


def pair_probabilities(first, second, delta):
    """Share of all pairs of cells whose log2 rate differs by at least delta, in the direction in which more do."""
    change = (first[:, None] - second) / np.log(2)
    return np.maximum((change >= delta).mean((0, 1)), (change < -delta).mean((0, 1)))


@pytest.fixture(scope="module")
def compared():
    adata = two_conditions()
    setup_anndata(adata, categorical_covariate_keys=["condition"], size_factor_key="size")
    model = PLNPCA(adata, n_latent=1)
    model.train(progress=False)
    table = model.differential_expression(groupby="condition", group1="treated", silent=True)
    return model, table.loc[adata.var_names]


def test_fold_changes_are_the_true_ones(compared):
    model, table = compared
    np.testing.assert_allclose(table["lfc_median"], model.adata.var["effect"] / np.log(2), atol=0.25)


def test_probabilities_are_those_of_the_posterior(compared):
    """Of a linear decoder and Gaussian posteriors, the change of a pair of cells is Gaussian: no draws are needed."""
    model, table = compared
    treated = (model.adata.obs["condition"] == "treated").to_numpy()
    posterior, loadings = model.get_posterior(), model.get_loadings().to_numpy()
    design = np.column_stack([np.ones(model.adata.n_obs), treated])
    mean = design @ model.get_coefficients().to_numpy().T + posterior.mean @ loadings.T
    variance = np.einsum("jk,ikl,jl->ij", loadings, posterior.covariance, loadings)
    change = (mean[treated][:, None] - mean[~treated]) / np.log(2)
    sd = np.sqrt(variance[treated][:, None] + variance[~treated]) / np.log(2)
    exact = np.maximum(norm.sf((0.25 - change) / sd).mean((0, 1)), norm.cdf((-0.25 - change) / sd).mean((0, 1)))
    np.testing.assert_allclose(table["proba_de"], exact, atol=5 * 0.5 / np.sqrt(5000))
    np.testing.assert_allclose(table["lfc_mean"], change.mean((0, 1)), atol=0.02)
    np.testing.assert_allclose(table["lfc_std"], np.sqrt((sd**2).mean((0, 1)) + change.var((0, 1))), rtol=0.06)


def test_probabilities_are_calibrated_and_false_discoveries_controlled(compared):
    model, table = compared
    treated = (model.adata.obs["condition"] == "treated").to_numpy()
    log_rates = model.adata.uns["log_rates"]
    true = pair_probabilities(log_rates[treated], log_rates[~treated], 0.25)
    np.testing.assert_allclose(table["proba_de"], true, atol=0.15)
    assert abs((table["proba_de"] - true).mean()) < 0.03
    called = table["is_de_fdr_0.05"].to_numpy()
    changed = model.adata.var["effect"].to_numpy() != 0
    assert (called <= changed).all(), "a gene without an effect is called"
    assert called.sum() >= 0.9 * changed.sum()
    assert 1 - true[called].mean() < 0.07
    # As many genes as the expected share of false ones allows, and not one more.
    falsehood = np.sort(1 - table["proba_de"])
    assert called.sum() == (np.cumsum(falsehood) / np.arange(1, len(falsehood) + 1) <= 0.05).sum()


def test_vanilla_mode_compares_rates(compared):
    model, _ = compared
    table = model.differential_expression(groupby="condition", group1="treated", mode="vanilla", silent=True)
    effect = model.adata.var["effect"].loc[table.index]
    assert set(table) >= {"proba_m1", "proba_m2", "bayes_factor"}
    assert (table.loc[effect > 0, "proba_m1"] > 0.95).all()
    assert (table.loc[effect < 0, "proba_m1"] < 0.05).all()


@pytest.mark.parametrize(
    ("model_class", "arguments"), [(CountVAE, {}), (CountGMVAE, {"n_components": 2})], ids=["CountVAE", "CountGMVAE"]
)
def test_autoencoders_find_what_changes_between_latent_groups(model_class, arguments):
    adata = two_conditions(n_obs=400)
    setup_anndata(adata, size_factor_key="size")
    model = model_class(adata, n_latent=2, n_hidden=16, likelihood="poisson", **arguments)
    model.train(max_epochs=20, batch_size=32, progress=False)
    table = model.differential_expression(groupby="condition", group1="treated", silent=True).loc[adata.var_names]
    effect, called = adata.var["effect"].to_numpy(), table["is_de_fdr_0.05"].to_numpy()
    slope, intercept = np.polyfit(effect / np.log(2), table["lfc_median"], 1)
    np.testing.assert_allclose([slope, intercept], [1, 0], atol=0.1)
    assert called[effect != 0].sum() >= 9
    assert called[effect == 0].sum() <= 1


def test_real_values_are_compared_by_differences():
    rng = np.random.default_rng(0)
    group, effect = np.arange(200) % 2, np.array([-2.0, 0.0, 0.0, 1.5, 0.0, 0.0])
    adata = AnnData(rng.normal(-1, 0.2, (200, 6)) + np.outer(group, effect))
    adata.obs["group"] = np.where(group == 1, "up", "down")
    setup_anndata(adata, is_count_data=False, categorical_covariate_keys=["group"])
    model = PLNPCA(adata, n_latent=1, likelihood="gaussian")
    model.train(progress=False)
    table = model.differential_expression(groupby="group", group1="up", silent=True).loc[adata.var_names]
    np.testing.assert_allclose(table["lfc_median"], effect, atol=0.15)
    np.testing.assert_array_equal(table["is_de_fdr_0.05"], effect != 0)
    assert not table.filter(like="normalized").columns.any()
    with pytest.raises(ValueError, match="change_fn='log-fold' takes logarithms"):
        model.differential_expression(groupby="group", change_fn="log-fold")


def test_batch_correction_takes_batch_effects_out():
    adata = scpln.datasets.simulate(n_obs=400, n_vars=30, n_latent=1, n_batches=2, density=0.7, batch_sd=1.0, seed=1)
    setup_anndata(adata, batch_key="batch")
    model = PLNPCA(adata, n_latent=1, prior="none")
    model.train(progress=False)
    arguments = {"groupby": "batch", "group1": "1", "silent": True}
    observed, corrected, moved = (
        model.differential_expression(**arguments, **more).loc[adata.var_names]
        for more in ({}, {"batch_correction": True}, {"batch_correction": True, "batchid1": "1", "batchid2": ["0"]})
    )
    effect = model.get_coefficients()["batch[T.1]"] / np.log(2)
    np.testing.assert_allclose(observed["lfc_median"], effect, atol=0.4)
    np.testing.assert_allclose(moved["lfc_mean"], effect, atol=0.2)
    np.testing.assert_allclose(corrected["lfc_mean"], 0, atol=0.2)
    assert not corrected["is_de_fdr_0.05"].any()


def test_cells_without_counts_leave_finite_means():
    adata = make_adata()
    adata.X = adata.X.multiply((np.arange(90) != 3)[:, None]).tocsr()
    with pytest.warns(UserWarning, match="1 of 90 cells in adata.X have no counts"):
        setup_anndata(adata)
    model = PLNPCA(adata, n_latent=1)
    model.train(progress=False, max_epochs=3)
    table = model.differential_expression(groupby="group", group1="a", **QUICK)
    counts = adata.X.toarray()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1) * 1e4
    a = (adata.obs["group"] == "a").to_numpy()
    expected = pd.Series(shares[a].mean(0), adata.var_names).loc[table.index]
    np.testing.assert_allclose(table["raw_normalized_mean1"], expected, rtol=1e-5)
    assert not model.differential_expression(groupby="group", all_stats=False, **QUICK).filter(like="raw").columns.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Say what to compare: groupby="),
        ({"groupby": "grup"}, "Did you mean 'group'"),
        ({"groupby": "group", "group1": "c"}, r"'c' is not a group of adata.obs\['group'\], which has \['a', 'b'\]"),
        ({"groupby": "group", "group2": 3}, "3 is not a group"),
        ({"groupby": "group", "mode": "changed"}, "mode='changed' is not available"),
        ({"groupby": "group", "batchid1": "0"}, "batchid1='0' says where cells are moved to.*batch_correction=True"),
        ({"groupby": "group", "batch_correction": True, "batchid1": "7", "batchid2": "0"}, "'7' is not a category"),
        ({"idx1": range(90)}, "One of the groups has no cells"),
        ({"idx1": "group == 'z'"}, "idx1 selects no cells"),
        ({"idx1": "size_factor"}, "idx1='size_factor' is no query .* not True or False for each cell"),
        ({"idx1": "group =="}, "idx1='group ==' is no query of the columns"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        trained("PLNPCA, poisson").differential_expression(**arguments, **QUICK)


class TestColumnsOfGroups:
    """Groups are found in columns of every type, and named where they are too few, too many or empty."""

    @pytest.fixture
    def cells(self):
        return trained("PLNPCA, poisson").adata.copy()

    def compare(self, cells, **arguments):
        model = trained("PLNPCA, poisson")
        return model.differential_expression(cells, groupby="kind", seed=0, all_stats=False, **{**QUICK, **arguments})

    @pytest.mark.parametrize(
        ("make", "a", "b"),
        [
            (lambda is_a: pd.Categorical(np.where(is_a, "a", "b"), categories=["a", "unused", "b"]), "a", "b"),
            (lambda is_a: pd.array(np.where(is_a, 1, 2), "Int64"), 1, 2),
            (lambda is_a: pd.array(np.where(is_a, 1, 2), "Int64"), "1", 2.0),
            (lambda is_a: is_a, True, False),
            (lambda is_a: pd.array(is_a, "boolean"), True, False),
            (lambda is_a: np.where(is_a, 0.1, 0.2).astype(np.float32), 0.1, np.float32(0.2)),
            (lambda is_a: np.where(is_a, b"a", b"b").astype(object), b"a", b"b"),
            (lambda is_a: pd.to_datetime(np.where(is_a, "2020-01-31", "2021-06-01")), "2020-01-31", "2021-06-01"),
        ],
    )
    def test_of_every_type(self, cells, make, a, b):
        cells.obs["kind"] = cells.obs["group"]
        expected = self.compare(cells, group1="a", group2="b")
        cells.obs["kind"] = make((cells.obs["group"] == "a").to_numpy())
        numbers = [name for name in expected if expected[name].dtype.kind in "fb"]
        for group2 in (b, [b]):
            table = self.compare(cells, group1=a, group2=group2)
            pd.testing.assert_frame_equal(table[numbers], expected[numbers])
        everything = self.compare(cells)
        assert everything["comparison"].nunique() == 2, "one for each group that has cells"

    def test_numbers_stay_numbers_in_the_table(self, cells):
        cells.obs["kind"] = pd.array(np.resize([1, 2, 3], cells.n_obs), "Int64")
        table = self.compare(cells, group2=3)
        assert set(table["group1"]) == {1, 2}
        assert set(table["group2"]) == {3}
        assert set(self.compare(cells, group1=1)["group2"]) == {"Rest"}

    def test_numbers_in_single_precision_keep_their_digits(self, cells):
        cells.obs["kind"] = np.resize(np.float32([0.1, 0.2]), cells.n_obs)
        assert set(self.compare(cells)["group1"]) == {0.1, 0.2}

    def test_a_query_takes_nullable_columns(self, cells):
        cells.obs["old"] = pd.array(np.resize([True, False, None], cells.n_obs), "boolean")
        of_query = self.compare(cells, idx1="old")
        of_mask = self.compare(cells, idx1=cells.obs["old"].fillna(False).to_numpy(bool))
        pd.testing.assert_frame_equal(of_query, of_mask)

    def test_cells_without_a_group_are_in_the_rest(self, cells):
        number = pd.array(np.resize([1, 2, 3], cells.n_obs), "Int64")
        number[number == 3] = pd.NA
        cells.obs["kind"] = number
        is_first = np.resize([True, False, False], cells.n_obs)
        by_cells = self.compare(cells, idx1=is_first)
        pd.testing.assert_series_equal(self.compare(cells, group1=1)["lfc_mean"], by_cells["lfc_mean"])

    def test_several_groups_to_compare_with_are_taken_together(self, cells):
        cells.obs["kind"] = np.resize([1, 2, 3, 4], cells.n_obs)
        table = self.compare(cells, group1=[1], group2=[2, 4])
        by_cells = self.compare(cells, idx1=cells.obs["kind"] == 1, idx2=cells.obs["kind"].isin([2, 4]))
        pd.testing.assert_series_equal(table["lfc_mean"], by_cells["lfc_mean"])
        assert set(table["comparison"]) == {"1 vs 2, 4"}
        assert set(self.compare(cells, group2=[2, 4])["group1"]) == {1, 3}

    def test_small_groups_are_named(self, cells):
        cells.obs["kind"] = ["one", "two", "two", *np.resize(["a", "b"], cells.n_obs - 3)]
        with pytest.warns(
            UserWarning, match=r"2 groups of .*'kind'.* are left out.* min_cells=3 .*: 'one' \(1\), 'two' \(2\)"
        ):
            assert set(self.compare(cells)["group1"]) == {"a", "b"}
        with pytest.raises(ValueError, match=r"'one' of .* cannot be compared: it has 1 cells, fewer than min_cells=3"):
            self.compare(cells, group1=["a", "one"])
        with pytest.raises(ValueError, match=r"'a' of .* cannot be compared: what it is compared with has 2 cells"):
            self.compare(cells, group1="a", group2="two")
        assert set(self.compare(cells, min_cells=1)["group1"]) == {"one", "two", "a", "b"}
        with pytest.raises(ValueError, match="min_cells=0, but it must be"):
            self.compare(cells, min_cells=0)

    def test_many_groups_are_refused_unless_they_are_named(self, cells):
        many = AnnData(
            np.ones((240, 1)), obs=pd.DataFrame({"kind": np.resize(np.arange(120), 240)}, index=map(str, range(240)))
        )
        with pytest.raises(ValueError, match=r"'kind'\] \(groupby\) has 120 groups, and each would be .*group1="):
            self.compare(many)
        cells.obs["kind"] = np.arange(cells.n_obs) // 3
        assert set(self.compare(cells, group1=[3, 7])["group1"]) == {3, 7}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"group1": "unused"}, r"'unused' is not a group of .*, which has \['a', 'b'\]"),
            ({"group1": "a", "group2": ["b", "a"]}, "'a' of .* is compared with itself"),
            ({"group1": []}, "No group is named of"),
        ],
    )
    def test_what_makes_no_sense(self, cells, arguments, message):
        cells.obs["kind"] = pd.Categorical(cells.obs["group"], categories=["a", "b", "unused"])
        with pytest.raises(ValueError, match=message):
            self.compare(cells, **arguments)

    def test_batches_may_be_numbers(self, cells):
        cells.obs["kind"] = cells.obs["group"]
        moved = [self.compare(cells, batch_correction=True, batchid1=one, batchid2=0) for one in (1, 1.0, "1", [1])]
        for table in moved[1:]:
            pd.testing.assert_frame_equal(table, moved[0])


def test_batch_correction_needs_batches():
    adata = make_adata()
    setup_anndata(adata)
    model = PLNPCA(adata, n_latent=1)
    with pytest.raises(RuntimeError, match="not trained"):
        model.differential_expression(groupby="group")
    model.train(progress=False, max_epochs=2)
    with pytest.raises(ValueError, match="batch_correction=True needs batches"):
        model.differential_expression(groupby="group", batch_correction=True)
