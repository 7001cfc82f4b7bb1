"""Standard errors, tests, bootstrap and jackknife of models, as a user asks for them."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import scanpy as sc

import scpln
from scpln.core import _count_data, _threads
from scpln.inference.genespace import fit_pln
from scpln.inference.uncertainty import _build
from scpln.model.abilities import StandardErrors
from scpln.module.covariances import Full

from .every_model import KINDS, make_adata, trained


def make(n=120, p=6, scale=1.0, shift=0.0, seed=0):
    adata = scpln.datasets.simulate(n_obs=n, n_vars=p, n_latent=2, n_batches=3, density=0.6, seed=seed)
    random = np.random.default_rng(1)
    adata.obs["age"] = shift + scale * random.normal(size=n)
    adata.obs["donor"] = pd.Categorical(np.arange(n) % 12)
    scpln.model.setup_anndata(adata, batch_key="batch", continuous_covariate_keys=["age"])
    return adata


def fit(adata, kind="PLN", **arguments):
    model = scpln.model.PLN(adata, **arguments) if kind == "PLN" else scpln.model.PLNPCA(adata, 2, **arguments)
    model.train(progress=False, tol=1e-8)
    return model


@pytest.fixture(scope="module")
def pln():
    return fit(make())


@pytest.fixture(scope="module")
def plnpca():
    return fit(make(p=14), "PLNPCA", prior="none")


@pytest.fixture(params=["pln", "plnpca"])
def model(request):
    return request.getfixturevalue(request.param)


def test_columns_are_covariates_and_what_is_said_of_them(model):
    table = model.get_coefficients(with_se=True, interval=0.9)
    assert table.columns.get_level_values(0).unique().to_list() == model.covariates
    part = table["age"]
    np.testing.assert_allclose(part["coefficient"], model.get_coefficients()["age"])
    np.testing.assert_allclose(
        part["upper"] - part["lower"], 2 * 1.66 * part["se"], rtol=5e-3
    )  # t with 116 degrees of freedom
    assert model.get_coefficients(with_se=True)["age"].columns.to_list() == ["coefficient", "se"]


@pytest.mark.parametrize("kind", ["PLN", "PLNPCA"])
def test_t_statistics_do_not_depend_on_units(kind):
    arguments = {} if kind == "PLN" else {"prior": "none"}
    one, other = fit(make(), kind, **arguments), fit(make(scale=365.0, shift=-20.0), kind, **arguments)
    for contrast in ("age", "batch"):
        a, b = (m.test_covariates(contrast).set_index("names").sort_index() for m in (one, other))
        np.testing.assert_allclose(a["scores"], b["scores"], rtol=2e-2, atol=1e-2)
    # The intercept is that at age 0, which is not the same, but it is a linear combination of coefficients that the first has, too.
    table = other.get_coefficients(with_se=True)
    moved = one.test_covariates({"(Intercept)": 1, "age": 20 / 365}).set_index("names").loc[table.index]
    np.testing.assert_allclose(table[("(Intercept)", "se")], np.log(2) * moved["logfoldchanges_se"], rtol=2e-2)


def test_a_contrast_has_many_forms(pln):
    names = pln.covariates
    expected = pln.test_covariates({"batch[T.1]": 1, "batch[T.2]": -1})
    vector = [0, 1, -1, 0]
    assert names == ["(Intercept)", "batch[T.1]", "batch[T.2]", "age"]
    pd.testing.assert_frame_equal(pln.test_covariates(vector), expected)
    several = pln.test_covariates(["batch[T.1]", "batch[T.2]"])
    pd.testing.assert_frame_equal(pln.test_covariates("batch"), several)
    assert "logfoldchanges[batch[T.1]]" in several
    pd.testing.assert_frame_equal(pln.test_covariates([vector]), expected)


def test_several_at_once_do_not_depend_on_which_stand_for_them(pln):
    one = pln.test_covariates(["batch[T.1]", "batch[T.2]"])
    other = pln.test_covariates([{"batch[T.1]": 1, "batch[T.2]": 1}, {"batch[T.1]": 3, "batch[T.2]": -1}])
    np.testing.assert_allclose(one["scores"], other["scores"], rtol=1e-8)
    single = pln.test_covariates("age")
    joint = pln.test_covariates(["age"])
    np.testing.assert_allclose(single["pvals"], joint["pvals"])


def test_changes_against_a_reference(model):
    """By the covariance of all coefficients; a contrast across genes."""
    genes, others = list(model.genes), list(model.genes[:2])
    b = model.get_coefficients()["age"]
    joint = model.get_coefficient_covariance(genes).xs("age", level=1).xs("age", level=1, axis=1)
    found = model.test_covariates("age", reference=others).set_index("names")
    for gene in genes[2:]:
        weights = (np.array(genes) == gene) - np.isin(genes, others) / 2
        np.testing.assert_allclose(found.loc[gene, "logfoldchanges"] * np.log(2), weights @ b, rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(
            found.loc[gene, "logfoldchanges_se"] * np.log(2), np.sqrt(weights @ joint @ weights), rtol=1e-5
        )
    one = model.test_covariates("age", reference=genes[0]).set_index("names")
    assert one.loc[genes[0], ["scores", "logfoldchanges", "pvals", "pvals_adj"]].tolist() == [0, 0, 1, 1]
    written = scpln.tl.test_covariates(model, "age", reference=genes[0]).set_index("names")
    pd.testing.assert_frame_equal(written, one)
    with pytest.raises(ValueError, match="1 of 1 genes are not in the model: 'none'"):
        model.test_covariates("age", reference="none")


def test_what_all_genes_have_in_common_does_not_matter_beside_a_reference():
    """Size factors that go with a covariate move all its coefficients, and no difference of them."""
    tables = []
    for slope in (0.0, 0.7):
        adata = make()
        adata.obs["size"] = np.exp(slope * adata.obs["age"])
        scpln.model.setup_anndata(adata, continuous_covariate_keys=["age"], size_factor_key="size")
        model = fit(adata, prior_precision=0)
        tables.append(model.test_covariates("age", reference=list(adata.var_names)).set_index("names").sort_index())
    pd.testing.assert_frame_equal(*tables, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize(
    ("contrast", "message"),
    [
        ("weight", "no coefficient of this model"),
        ({"weight": 1}, "no coefficient of this model"),
        ([1, 0], "has shape"),
        (["age", "age"], "follows from the others"),
        ({"age": 0}, "follows from the others"),
        ([], "names no coefficient|has shape"),
    ],
)
def test_a_contrast_that_is_none_is_refused(pln, contrast, message):
    with pytest.raises(ValueError, match=message):
        pln.test_covariates(contrast)


def test_pvals_of_nothing_are_spread_evenly():
    found = []
    for seed in range(12):
        adata = make(n=150, p=8, seed=seed)
        adata.obs["null"] = np.random.default_rng(seed).normal(size=150)
        scpln.model.setup_anndata(adata, continuous_covariate_keys=["null"])
        model = scpln.model.PLN(adata, "diagonal")
        model.train(progress=False)
        found.append(model.test_covariates("null")["pvals"])
    assert 0.01 < (np.concatenate(found) < 0.05).mean() < 0.12


def test_covariance_across_genes_has_that_of_each_gene(pln):
    genes = ["gene_4", "gene_1"]
    whole = pln.get_coefficient_covariance(genes)
    se = pln.get_coefficients(with_se=True)
    for gene in genes:
        expected = se.loc[gene].xs("se", level=1)
        block = whole.loc[gene, gene]
        np.testing.assert_allclose(np.sqrt(np.diag(block)), expected[block.index])


def test_donors_are_what_varies(model):
    table = model.get_coefficients(with_se=True, interval=0.95, donor_key="donor")
    half = (table[("age", "upper")] - table[("age", "lower")]) / 2
    np.testing.assert_allclose(
        half / table[("age", "se")], 2.201, rtol=1e-3
    )  # t with 11 degrees of freedom: 12 donors, whose cells are of all batches
    adata = model.adata
    adata.obs["one"] = "a"
    adata.obs["gaps"] = [None, *["a", "b"] * ((adata.n_obs - 1) // 2), "a"][: adata.n_obs]
    with pytest.raises(ValueError, match="one donor only"):
        model.get_coefficients(with_se=True, donor_key="one")
    with pytest.raises(ValueError, match="have no donor"):
        model.get_coefficients(with_se=True, donor_key="gaps")
    with pytest.raises(ValueError, match="independent"):
        model.test_covariates("age", method="model", donor_key="donor")


def test_jackknife_is_a_loop_of_fits():
    adata = make(n=40, p=2)
    model = fit(adata)
    found = model.jackknife(progress=False, n_threads=1)
    data = model._read(adata).data
    fits = [
        fit_pln(data.subset(np.delete(np.arange(40), cell)), Full(2), tol=1e-8, n_threads=1).coefficients
        for cell in range(40)
    ]
    age = np.array([b[:, 3] for b in fits]) / adata.obs["age"].std(ddof=0)
    expected = np.sqrt(39 / 40 * np.square(age - age.mean(0)).sum(0))
    table = found.get_coefficients()["age"]
    np.testing.assert_allclose(table["se"], expected, rtol=2e-2)
    assert repr(found) == "jackknife of 40 samples (40 cells, 2 genes)"
    hc3 = model.get_coefficients(with_se=True)[("age", "se")]
    assert (np.abs(np.log(hc3 / expected)) < 0.35).all()


def test_bootstrap_is_the_same_again_whatever_the_threads(model):
    first, again = (model.bootstrap(4, seed=3, n_threads=threads, progress=False) for threads in (1, 2))
    np.testing.assert_array_equal(first.coefficients, again.coefficients)
    more = model.bootstrap(5, seed=3, progress=False)
    np.testing.assert_array_equal(more.coefficients[:4], first.coefficients)
    assert not np.array_equal(model.bootstrap(4, seed=4, progress=False).coefficients, first.coefficients)
    table = first.get_coefficients()["age"]
    assert ((table["lower"] <= table["upper"]) & (table["se"] > 0)).all()
    correlation = first.get_covariance_errors(["gene_2", "gene_0"], correlation=True)
    np.testing.assert_allclose(np.diag(correlation), 0, atol=1e-7)
    lower, upper = first.get_covariance_interval()
    assert (lower <= upper).all(axis=None)


def test_bootstrap_of_donors_draws_whole_ones(pln):
    found = pln.bootstrap(3, donor_key="donor", progress=False)
    assert repr(found) == "bootstrap of 3 samples (12 donors, 6 genes)"


def test_the_model_stays_as_it_is(model):
    before = model.get_coefficients(), model.get_latent_representation()
    model.bootstrap(2, progress=False)
    model.get_coefficients(with_se=True)
    pd.testing.assert_frame_equal(before[0], model.get_coefficients())
    np.testing.assert_array_equal(before[1], model.get_latent_representation())


@pytest.mark.parametrize("large", [False, True], ids=["few parameters", "many"])
@pytest.mark.parametrize("kind", ["PLN", "PLNPCA"])
def test_errors_of_blocks_of_cells_in_several_threads(kind, large, monkeypatch):
    """As those of all cells at once; and models that keep what they follow from can still be copied."""
    model = fit(make(), kind)
    if large and kind == "PLNPCA":
        monkeypatch.setattr(_build, "MOST_PARAMETERS", 0)
    model.train(progress=False, tol=1e-8)
    whole = model.get_coefficients(with_se=True), model.get_coefficients(with_se=True, donor_key="donor")
    monkeypatch.setattr(_count_data, "BLOCK_PAIRS", 1)
    monkeypatch.setattr(_threads, "available_threads", lambda: 3)
    model._kept_sandwich = None
    parts = model.get_coefficients(with_se=True), model.get_coefficients(with_se=True, donor_key="donor")
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(parts[0], again.get_coefficients(with_se=True))
    np.testing.assert_array_equal(parts[0], copy.deepcopy(model).get_coefficients(with_se=True))


def test_errors_of_covariances_are_about_those_of_a_bootstrap():
    model = fit(make(n=150, p=2))
    sandwich = model.get_covariance_errors()
    bootstrap = model.bootstrap(40, progress=False).get_covariance_errors()
    assert (np.abs(np.log(sandwich / bootstrap)) < 0.6).all(axis=None)
    assert np.allclose(np.diag(model.get_covariance_errors(correlation=True)), 0, atol=1e-7)


def test_errors_of_covariances_that_are_not_all_parameters_are_refused():
    model = fit(make(n=60, p=45))
    with pytest.raises(ValueError, match="Errors of Σ take a matrix"):
        model.get_covariance_errors()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_blocks": 500}, "n_blocks=500"),
        ({"n_blocks": 5, "donor_key": "donor"}, "n_blocks=5"),
    ],
)
def test_blocks_that_cannot_be_are_refused(pln, arguments, message):
    with pytest.raises(ValueError, match=message):
        pln.jackknife(progress=False, **arguments)


@pytest.mark.parametrize("kind", [kind for kind, (model, _) in KINDS.items() if issubclass(model, StandardErrors)])
def test_every_kind_has_errors_or_says_why_not(kind):
    model = trained(kind)
    without = any(word in kind for word in ("PCA, meanfield", "mixture", "flow", "encoder"))
    if without:
        with pytest.raises(ValueError, match="Gaussian posteriors of full rank"):
            model.get_coefficients(with_se=True)
        return
    if any(word in kind for word in ("network", "quadrature", "importance")):
        with pytest.raises(ValueError, match="estimates that maximise the bound"):
            model.get_coefficients(with_se=True)
        if "quadrature" in kind:
            assert model.bootstrap(2, progress=False).n_samples == 2
        return
    table = model.get_coefficients(with_se=True)
    se = table.xs("se", axis=1, level=1)
    assert np.isfinite(se).all(axis=None)
    assert (se > 0).all(axis=None)
    if kind in ("PLNPCA, poisson", "PLNPCA, nb", "PLNPCA, gaussian", "PLN, meanfield"):
        assert model.bootstrap(2, progress=False).n_samples == 2


def test_other_cells_are_refused(tmp_path):
    model = trained("PLN")
    model.save(tmp_path / "model", save_anndata=False)
    loaded = scpln.model.PLN.load(tmp_path / "model", None)
    with pytest.raises((ValueError, RuntimeError), match="cells that they were estimated on"):
        loaded.get_coefficients(with_se=True)


def test_what_scanpy_reads(plnpca):
    table = scpln.tl.test_covariates(plnpca, "age", key_added="age")
    found = sc.get.rank_genes_groups_df(plnpca.adata, group="age", key="age")
    assert found["names"].to_list() == table["names"].to_list()
    np.testing.assert_allclose(found["pvals_adj"], table["pvals_adj"])
    np.testing.assert_allclose(found["logfoldchanges"], table["logfoldchanges"], rtol=1e-6)
    with pytest.raises(TypeError, match="PLN or PLNPCA"):
        scpln.tl.test_covariates(make_adata(), "age")
