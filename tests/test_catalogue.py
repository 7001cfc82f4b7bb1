"""The rows of models say what the classes, functions and pages are, and a further row is all that a further model needs."""

import inspect
import json
import re
from pathlib import Path
from typing import get_args

import anndata as ad
import numpy as np
import pytest

import scpln
from scpln import _catalogue as catalogue
from scpln._catalogue import FLOWS, LIKELIHOODS, MODELS, POSTERIORS, WITH_PARAMETERS, results_of
from scpln.cli import main, make_parser
from scpln.model.base import PosteriorName
from scpln.module import FLOWS as ALL_FLOWS
from scpln.module import LIKELIHOODS as ALL_LIKELIHOODS
from scpln.module import make_likelihood
from scpln.tl._fit import choices, split

from .model.toys import ROWS
from .toy import TOY, Toy

ROOT = Path(__file__).parents[1]
#: Options with which a model writes what it does not always, of which there is more than one.
WITH_MORE_RESULTS = {
    "pln": (
        {"zero_inflation": "covariates"},
        {"zero_inflation": "cell"},
        {"penalty": 0.01},
        {"covariance": "factor", "n_factors": 2},
    ),
    "treewalk": ({}, {"walk": "global"}),
}
#: Columns of obs and var that some models cannot do without.
COLUMNS = {"labels_key": "kind", "order_key": "day", "tree": "clade", "target_key": "day"}
SMALL = {"n_hidden": 8, "n_components": 2, "start": "random"}


@pytest.fixture(scope="module")
def adata():
    adata = scpln.datasets.simulate(40, 12, n_latent=2, n_batches=2, density=0.6)
    adata.obs["kind"] = np.where(adata.obsm["true_latent"][:, 0] > 0, "high", "low")
    adata.obs["day"] = np.arange(40)
    adata.var["clade"] = np.repeat(["a", "b", "c"], 4)
    adata.uns["composition"] = {"label_key": ["clade", "gene"]}
    return adata


@pytest.fixture
def small(adata, tmp_path, monkeypatch):
    adata.copy().write_h5ad(tmp_path / "in.h5ad")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=[*MODELS, *(row.key for row in ROWS)])
def entry(request, monkeypatch):
    """Every row, and those of models without a latent state that stand in the tests."""
    for row in ROWS:
        if row.key == request.param:
            monkeypatch.setitem(MODELS, row.key, row)
    return MODELS[request.param]


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(MODELS, TOY.key, TOY)


def text_of(path):
    return (ROOT / path).read_text(encoding="utf-8")


def test_shared_names_are_those_of_the_library():
    assert tuple(ALL_FLOWS) == FLOWS
    assert get_args(PosteriorName) == POSTERIORS
    assert tuple(ALL_LIKELIHOODS) == LIKELIHOODS
    assert {name for name in LIKELIHOODS if make_likelihood(name, 3).parameter_names} == set(WITH_PARAMETERS)
    assert not ALL_LIKELIHOODS[catalogue.OF_VALUES].is_count


def is_model(value):
    return inspect.isclass(value) and issubclass(value, scpln.model.ScplnModel)


def test_classes_are_those_that_the_package_exports():
    """Of those that read AnnData or MuData, and not arrays."""
    names = {entry.class_name for entry in MODELS.values()}
    base = scpln.model.ScplnModel
    assert names == {name for name in scpln.model.__all__ if is_model(getattr(scpln.model, name))} - {base.__name__}
    for entry in MODELS.values():
        assert entry.load_class() is getattr(scpln.model, entry.class_name)
        assert entry.key == entry.class_name.lower()
        assert catalogue.of_class(entry.class_name) is entry


def test_likelihoods_and_posteriors_are_those_that_the_class_takes(entry, adata):
    model_class = entry.load_class()
    taken = choices(model_class)
    for name, values in {"likelihood": entry.likelihoods, "posterior": entry.posteriors}.items():
        if not values:
            continue
        assert taken[name] == values[0]
        model_class.setup_anndata(adata)
        with pytest.raises(ValueError, match=f"{name}='x'") as error:
            model_class(adata, **{"n_latent": 2} if entry.has_latent else {}, **{name: "x"})
        listed = re.search(r"\[(.*?)\]", str(error.value))[1]
        assert {each.strip("' ") for each in listed.split(",")} == set(values)


def test_options_are_arguments_with_their_defaults(entry, adata):
    model_class = entry.load_class()
    steps = split(model_class, adata, {option.name: 1 for option in entry.options})
    assert set().union(*steps) == {option.name for option in entry.options}
    taken = choices(model_class.setup_anndata) | choices(model_class) | choices(model_class.train)
    assert {"seed", "max_epochs", "progress", *(["n_latent"] if entry.has_latent else [])} <= set(taken)
    for option in entry.options:
        if not isinstance(taken[option.name], bool | None) and option.name != "accelerator":
            assert option.default == taken[option.name]
        assert not option.choices or option.kind == "choice"
    for name, value in entry.defaults.items():
        assert taken[name] in (None, value)
    assert set(entry.stochastic) | set(entry.closed_form) <= set(taken)
    assert entry.takes_mudata == hasattr(model_class, "setup_mudata")


def test_choices_of_options_are_those_of_the_class(entry):
    from scpln.model.autoencoder import _architecture

    by_name = {option.name: option for option in entry.options}
    if "dispersion" in by_name:
        assert by_name["dispersion"].choices == get_args(_architecture.Dispersion)


def test_one_call_functions_name_what_every_set_up_takes(entry):
    if entry.function is None:
        pytest.skip("it has no one-call function")
    keys = {name for name in choices(scpln.model.setup_anndata) if name.endswith("_key") or name.endswith("_keys")}
    wanted = {"layer", "design", *keys} - {"labels_key"}
    assert wanted <= set(inspect.signature(getattr(scpln.tl, entry.function)).parameters)


def test_what_is_written_is_what_the_row_says(entry, adata):
    """After a fit by the library, with a likelihood that has parameters, so that everything is there."""
    if entry.function is None:
        pytest.skip("it has no one-call function")
    adata = adata.copy()
    model_class = entry.load_class()
    given = {name: value for name, value in SMALL.items() if name in choices(model_class) | choices(model_class.train)}
    given |= {"n_latent": 2} if entry.has_latent else {}
    likelihood = next(({"likelihood": name} for name in ("zinb", "nb") if name in entry.likelihoods), {})
    before = places(adata, entry.key)
    arguments = {"max_epochs": 2, "progress": False, **given, **likelihood}
    function, found = getattr(scpln.tl, entry.function), set()
    needed = [name for name, each in inspect.signature(function).parameters.items() if each.default is each.empty]
    needed += ["tree"] if "tree" in inspect.signature(function).parameters else []
    arguments |= {name: column for name, column in COLUMNS.items() if name in needed}
    arguments |= {"diagnostics": True} if "diagnostics" in inspect.signature(function).parameters else {}
    for options in WITH_MORE_RESULTS.get(entry.key, ({},)):
        function(adata, **arguments, **options)
        found |= places(adata, entry.key) - before
    assert found == {place for result in results_of(entry) for place in result.places}


def places(adata, key):
    """Places with results, as rows write them."""
    slots = ("obs", "obsm", "var", "varm", "varp", "uns")
    found = [(slot, name) for slot in slots for name in getattr(adata, slot) if key in name]
    return {f'{slot}["{name.replace(key, "KEY")}"]' for slot, name in found}


@pytest.mark.usefixtures("small")
def test_the_command_fits_it(entry):
    """Tiny data, and no option but those that make it quick."""
    quick = {"n_hidden": "8", "n_components": "2"}
    names = {option.name for option in entry.options}
    options = [
        text for name, value in quick.items() if name in names for text in (f"--{name.replace('_', '-')}", value)
    ]
    argv = ["fit", "in.h5ad", "--model", entry.key, "--max-epochs", "2"]
    argv += (
        ["--n-latent", "2", "--threads", "1"]
        if entry.has_latent
        else [
            text
            for name, column in COLUMNS.items()
            if name in names
            for text in (f"--{name.replace('_', '-')}", column)
        ]
    )
    assert main([*argv, *options, "--out", "out.h5ad", "--summary", "s.json", "--quiet"]) == 0
    summary, written = json.loads(Path("s.json").read_text()), ad.read_h5ad("out.h5ad")
    assert (summary["model"], summary["key"]) == (entry.class_name, entry.key)
    assert summary["likelihood"] == next(iter(entry.likelihoods), None)
    always = {place for result in results_of(entry) if result.always for place in result.places}
    assert always <= places(written, entry.key)


def test_documentation_knows_it(entry):
    if entry.page is None:
        pytest.skip("it has no page")
    assert entry.class_name in text_of(f"docs/{entry.page}.md")
    assert f"--model {entry.key}" in text_of(f"docs/{entry.page}.md")
    assert f"scpln.tl.{entry.function}(" in text_of(f"docs/{entry.page}.md")
    reference = text_of("docs/api/models.md").splitlines()
    assert f"   model.{entry.class_name}" in reference
    assert f"   tl.{entry.function}" in reference
    assert f"| [`{entry.class_name}`](docs/{entry.page}.md) |" in text_of("README.md")
    assert f"</{entry.page}>`" in text_of("docs/guides/choosing.md")
    assert entry.page in text_of("docs/index.md")
    row = f"| `{entry.key}` | {{doc}}`{entry.class_name} </{entry.page}>` | {entry.summary} |"
    assert row in text_of("docs/command_line.md")


def test_figures_are_functions(entry):
    assert set(entry.figures) <= set(scpln.pl.__all__)


def test_one_call_functions_are_whole(entry):
    """Every parameter is described, and nothing is left of the places that passages were put in."""
    if entry.function is None:
        pytest.skip("it has no one-call function")
    function = getattr(scpln.tl, entry.function)
    parameters = inspect.signature(function).parameters
    doc = inspect.getdoc(function)
    described = doc.partition("Parameters\n")[2].partition("Returns\n")[0]
    headings = {name for line in re.findall(r"^\S.*$", described, re.MULTILINE) for name in line.split(", ")}
    assert {name.replace("more", "**more") for name in parameters} <= headings
    assert not re.findall(r"^ *\{\w+\}$|CLASS|KEY", doc, re.MULTILINE)
    assert all(each.annotation is not inspect.Parameter.empty for each in parameters.values())
    for result in results_of(entry):
        for place in result.places:
            name = re.search(r'"(.*)"', place)[1].replace("KEY", "{key_added}")
            assert name in doc or "…" + name.removeprefix("{key_added}") in doc, place


@pytest.mark.usefixtures("toy", "small")
def test_a_further_model_is_one_row(capsys, tmp_path):
    argv = ["fit", "in.h5ad", "--model", "toy", "--n-latent", "2", "--out"]
    assert main([*argv, "one.h5ad", "--save-model", "model", "--haste", "4"]) == 0
    assert "Toy of in.h5ad" in capsys.readouterr().out
    written = ad.read_h5ad("one.h5ad")
    assert written.obsm["X_toy"].shape == (40, 2)
    assert written.uns["toy"]["params"]["haste"] == 4
    assert main(["plot", "one.h5ad", "--kind", "loadings", "--out", "loadings.png"]) == 0
    scpln.hub.write(Toy.load("model", ad.read_h5ad("in.h5ad")), tmp_path / "shared", license="mit")
    assert "A model in haste." in (tmp_path / "shared" / "README.md").read_text()
    loaded = scpln.hub.load(tmp_path / "shared", ad.read_h5ad("in.h5ad"))
    assert isinstance(loaded, Toy)
    np.testing.assert_allclose(loaded.get_latent_representation(), written.obsm["toy_state"], atol=1e-4)

    for options, message in (
        (["--likelihood", "nb"], "--model toy has no likelihood nb: choose from none, or fit --model plnpca"),
        (["--batch-size", "8"], "no step of Toy takes 'batch_size'"),
        (["--n-hidden", "8"], "--n-hidden has no effect on --model toy"),
    ):
        assert main([*argv, "two.h5ad", *options]) == 1
        assert message in capsys.readouterr().err
    assert main(["fit", "in.h5ad", "--haste", "3", "--out", "two.h5ad"]) == 1
    assert "--haste has no effect on --model plnpca: leave it out, or fit --model toy" in capsys.readouterr().err


@pytest.mark.usefixtures("toy")
def test_the_help_has_a_further_row(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for words in (
        "toy: a model in haste",
        "of --model toy only:",
        "how many times faster to be (default: 1)",
        "8 for toy",
        "loadings of every gene (plnpca and toy)",
    ):
        assert words in text
    with pytest.raises(SystemExit, match="0"):
        main(["plot", "--help"])
    assert "of each component (plnpca and toy)" in capsys.readouterr().out
    make_parser().parse_args(["fit", "a.h5ad", "--model", "toy", "--out", "b.h5ad"])


def test_without_the_row_it_is_unknown(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["fit", "in.h5ad", "--model", "toy", "--out", "b.h5ad"])
    assert "there is no 'toy'" in capsys.readouterr().err
