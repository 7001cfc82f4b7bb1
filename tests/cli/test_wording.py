"""Errors in the command line's own words: options and files, not arguments and AnnData; and the nearest option."""

import argparse
import re
from pathlib import Path

import numpy as np
import pytest
from tests.messages import messages

import scpln
from scpln import cli
from scpln._catalogue import SCVI_NAMES
from scpln.cli.wording import CommandParser, in_options

SOURCE = Path(scpln.__file__).parent

#: Python, but for what stands in quotes or is code.
PYTHON = re.compile(
    r"\b\w+=|\b[am]data\b|setup_|\w(?<!tocsr)\(\)|scpln\.|\b(True|False|None)\b|\b(?!var_names|obs_names|to_numeric|write_h5ad)\w+_\w+"
)
#: Code that a command line may show: what to do to a file in Python, and commands.
CODE = re.compile(r"…|[am]data[.\[].*|[am]data = .*|pip install .*|scpln .*|sc\.pp\..*|… = .*")

OUT_OF_REACH = {
    "cli": "in these words already",
    "core": "arguments of inner functions",
    "data/_checks": "commands read whole files, which are no views, nor lazy, and have names of text",
    "data/categories/_groups": "no command compares groups",
    "datasets": "functions that the command line calls with its own arguments",
    "hub": "no command shares models",
    "inference": "arguments of inner functions",
    "model/pln_tree/_proportions": "no command asks for a level",
    "module/covariances": "arguments of inner functions",
    "module/flows/_base": "arguments of inner functions",
    "module/likelihoods/_base": "arguments of inner functions",
    "module/_count_batch": "arguments of inner functions",
    "model/abilities/_differential": "no command compares groups",
    "model/abilities/group_tests": "no command compares groups",
    "model/abilities/uncertainty": "no command gives errors of parameters",
    "model/pln/_errors": "no command gives errors of parameters",
    "model/mixture_classifier": "no command fits it",
    "tl/labels": "no command calls it",
    "tl/mixture_classifiers": "no command fits it",
    "pl/_classifiers": "no command draws it",
    "tl/_rank_genes": "no command compares groups",
    "tl/_composition": "no command counts cells by sample",
    "tl/_select_rank": "no command chooses a rank",
    "pl/_ranks": "no command draws a choice of ranks",
    "model/abilities/_exact": "no command draws from exact posteriors",
    "model/abilities/_predictive": "no command writes expression",
    "model/base/_persistence": "commands read the class from the file, and always pass data",
    "pl/_networks": "commands draw all edges",
    "pl/_trees": "commands draw what is stored",
    "pl/_axes": "commands give the name of a file and no axes",
    "tune": "no command searches",
    "_settings": "no command sets them",
    "tl/_posterior_predictive": "no command compares replicated counts",
}
"""Files and folders whose messages no command can meet, and why."""
OUT_OF_REACH_IN = {
    "data/trees/_read.py: _of_graph": "options have text, and no graphs",
    "model/pln/_inference.py: _check_function": "options name a likelihood",
    "module/likelihoods/_zero_inflated.py: _bounded_parameters": "no command draws counts of a model in gene space",
    "data/_cells.py: cell_positions": "commands take all cells",
    "data/_modalities.py: _options": "`--modality` has a layer and size factors only",
    "data/_setup.py: _arguments": "commands pass True or False",
    "data/_cells.py: gene_positions": "no command takes some of the genes",
    "data/_cells.py: cells_where": "no command compares groups",
    "tl/_fit.py: fit": "the command says where it keeps the model",
    "data/_setup.py: _plain": "options have one text each",
    "data/design/_columns.py: get_column": "options have one text each",
    "data/_modalities.py: specify": "commands name modalities that are there",
    "model/abilities/clusters/_clusters.py: _component": "no command draws from components",
    "model/abilities/clusters/_clusters.py: _mixture": "commands ask whether there are clusters first",
    "model/abilities/clusters/_refusal.py: _limits": "`--reject` is said to need a reference that was trained",
    "model/tree_walk/_tree_walk.py: _check_data": "commands say what the data are by the likelihood",
    "model/tree_walk/_results.py: checked_totals": "no command draws samples",
    "model/tree_walk/_results.py: _inner": "no command gives orders",
    "model/tree_walk/_results.py: get_order_probabilities": "no command gives orders",
    "model/labels/_base.py: _take": "options have text, and the other one says it in words of both",
    "model/labels/_base.py: _check_posterior": "no command passes posteriors",
    "model/labels/_label_regressor.py: predict": "`conformal` is no option",
    "model/labels/_predictions.py: predict": "`soft` is no option",
    "model/tree_walk/_results.py: get_visit_ranks": "no command gives ranks",
    "model/labels/_calibrated.py: calibrate": "no command calibrates on other cells",
    "model/plnpca/_representation.py: get_latent_representation": "no command returns variances",
    "model/abilities/uncertainty/_ability.py: get_expression_interval": "no command returns intervals",
    "model/abilities/uncertainty/_ability.py: get_posterior": "no command returns posteriors",
    "model/abilities/uncertainty/_ability.py: _uncertainty_of_genes": "no command returns either",
    "model/abilities/_query.py: _trained": "commands load the class of the directory",
    "model/autoencoder/_architecture.py: of": "`dropout_rate` is no option",
    "model/autoencoder/_network_model.py: _check_data": "`size_factors` is no option",
    "model/autoencoder/_count_gmvae.py: _check_n_components": "`weights` is no option",
    "model/autoencoder/_count_gmvae.py: _check_start": "`start` is no option",
    "model/autoencoder/_options.py: of": "arguments of Lightning are no options",
    "model/base/saving/_document.py: model_file": "`prefix` is no option",
    "model/base/_estimator.py: __init__": "commands set data up first",
    "model/base/_estimator.py: _adopt": "commands set data up first",
    "model/base/_estimator.py: _data_or_own": "commands pass data",
    "model/base/_likelihood_choice.py: check_kind": "commands say what the data are by the likelihood",
    "model/base/_likelihood_choice.py: check_likelihood": "commands refuse this themselves",
    "model/pln_lda/_pln_lda.py: predict": "`soft` is no option",
    "model/pln_mixture/_pln_mixture.py: _check_n_components": "`--n-components` is one number",
    "model/vqvae/_count_vqvae.py: _check_data": "`prior_given` is no option",
    "model/vqvae/_count_vqvae.py: _require_labels": "`prior_given` is no option",
    "model/vqvae/_generation.py: _like_cells": "no command draws cells",
    "model/vqvae/_generation.py: get_code_genes": "no command gives genes of codes",
    "model/vqvae/_options.py: of": "`prior_given` and `code_dim` are no options",
    "pl/_codes/_codes.py: code_labels": "`position` is no option",
    "model/plnpca/_training.py: train": "`two_step` is no option",
    "pl/_predictive.py: posterior_predictive": "`kind` of this figure is no option",
    "pl/_stored.py: find_genes": "`--genes` has one or more names",
    "pl/_stored.py: _mask_of": "`mask_var` is no option",
    "tl/_evaluate.py: evaluate": "commands pass a file and its columns",
    "tl/_evaluate.py: _of_stored": "commands pass a file and its columns",
    "tl/_evaluate.py: _representation": "commands pass a file and its columns",
    "tl/_fit.py: split": "commands have an option for each argument",
    "tl/_scores.py: _import_scib": "scores of scib-metrics are no option",
    "tl/_scores.py: check": "commands pass labels",
    "train/epochs/_ineffective.py: warn_ineffective": "`kl_warmup` and `checkpoint_every` are no options",
    "train/epochs/_trainer.py: make_trainer": "`devices` is no option",
    "utils/_arguments.py: as_bool": "options without a value are true or false",
}
"""The same of functions."""


def reachable():
    for message in messages(SOURCE):
        file = message.where.partition(".py")[0]
        if not any(file == each or file.startswith(f"{each}/") for each in OUT_OF_REACH) and (
            message.where not in OUT_OF_REACH_IN
        ):
            yield message


def of_command(name):
    (action,) = (a for a in cli.make_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return action.choices[name]


def test_every_message_is_in_terms_of_options():
    commands = {"pl": of_command("plot"), "model/abilities/_query.py": of_command("map")}
    said = list(reachable())
    wrong = []
    for message in said:
        parser = next((each for start, each in commands.items() if message.where.startswith(start)), of_command("fit"))
        text = in_options(message.text, parser)
        plain = re.sub(r"`[^`]*`|'[^']*'|\"[^\"]*\"", "", text)
        if PYTHON.search(plain) or not all(map(CODE.fullmatch, re.findall(r"`([^`]*)`", text))):
            wrong.append(f"{message.where}: {text}")
    assert len(said) > 90
    assert not wrong, "\n".join(wrong)


def test_what_is_out_of_reach_exists():
    places = {message.where for message in messages(SOURCE)}
    assert set(OUT_OF_REACH_IN) <= places
    for each in OUT_OF_REACH:
        assert (SOURCE / each).exists() or (SOURCE / f"{each}.py").exists()


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("pass layer='counts', or is_count_data=False.", "pass --layer counts, or --likelihood gaussian."),
        ("Pass it in categorical_covariate_keys.", "Pass it by --categorical-covariate."),
        ("pass early_stopping=False or resume=True.", "pass --no-early-stopping or --resume."),
        ("adata.obs['n_latent'] (batch_key) is odd", "obs['n_latent'] (--batch-key) is odd"),
        ("known are ['n_latent', 'batch_key'].", "known are ['n_latent', 'batch_key']."),
        ("the model of the layer has color", "the model of the layer has color"),
        ("Take `adata[:, adata.var_names != 'D']` of adata.X.", "Take `adata[:, adata.var_names != 'D']` of X."),
        ("It holds n_latents and x.n_latent=2.", "It holds n_latents and x.n_latent=2."),
    ],
)
def test_names_are_translated_and_values_kept(message, expected):
    assert in_options(message, of_command("fit")) == expected


@pytest.fixture
def folder(tmp_path, monkeypatch):
    adata = scpln.datasets.simulate(40, 15, n_latent=2, n_batches=2, density=0.5)
    adata.layers["counts"] = adata.X.copy()
    adata.X = np.log1p(adata.X.toarray())
    adata.obs["depth"] = 0.0
    adata.obs["text"] = "a"
    adata.write_h5ad(tmp_path / "in.h5ad")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            [],
            "name one of the layers ['counts'] by --layer. To model such values as they are, add --likelihood gaussian.",
        ),
        (["--layer", "counts", "--size-factor-key", "depth"], "obs['depth'] (--size-factor-key) is 0 or negative"),
        (["--layer", "counts", "--continuous-covariate", "text"], "Pass it by --categorical-covariate, or convert it"),
        (["--layer", "counts", "--n-latent", "16"], "--n-latent 16, but it can be at most 15"),
        (
            ["--layer", "counts", "--model", "countvae", "--dispersion", "gene-batch"],
            "--dispersion gene-batch needs batches: name them in --batch-key",
        ),
    ],
)
def test_errors_of_the_library_name_options(folder, capsys, options, message):
    assert cli.main(["fit", "in.h5ad", "--out", "out.h5ad", *options]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not re.search(r"setup_anndata|layer=|adata", err)


def test_warnings_name_options(folder, capsys):
    assert cli.main(["fit", "in.h5ad", "--out", "out.h5ad", "--layer", "counts", "--max-epochs", "1"]) == 0
    assert re.search("To go on.*, train with a larger --max-epochs", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("argv", "usage", "message"),
    [
        (["fit", "in.h5ad", "--out", "o.h5ad", "--n_latent", "5"], "fit", "--n_latent; did you mean --n-latent?"),
        (["fit", "in.h5ad", "--n_latent=5"], "fit", "unknown option --n_latent; did you mean --n-latent?"),
        (["fit", "--config", "none.yaml", "--Layer", "a"], "fit", "unknown option --Layer; did you mean --layer?"),
        (["fit", "in.h5ad", "--lr", "0.1"], "fit", "unknown option --lr; did you mean --learning-rate?"),
        (["fit", "in.h5ad", "--gene_likelihood", "nb"], "fit", "did you mean --likelihood?"),
        (["fit", "in.h5ad", "--qqq"], "fit", "unknown option --qqq; `scpln fit --help` lists the options"),
        (["fit", "in.h5ad", "-n", "5"], "fit", "unknown option -n"),
        (["fit", "in.h5ad", "b.h5ad", "--out", "o.h5ad"], "fit", "unexpected argument 'b.h5ad'"),
        (["evaluate", "a.h5ad", "--label", "x", "--layers", "x"], "evaluate", "--layers; did you mean --layer?"),
        (["plot", "a.h5ad", "--kind", "latnt"], "plot", "--kind: there is no 'latnt'; did you mean 'latent'?"),
        (
            ["fit", "in.h5ad", "--likelihood", "pois", "--out", "o.h5ad"],
            "fit",
            "there is no 'pois'; did you mean 'poisson'?",
        ),
        (["--quit", "fit"], "", "unknown option --quit"),
        (["fot"], "", "'fot' is no command; did you mean 'fit'?"),
    ],
)
def test_mistyped_options_are_named_with_the_nearest(argv, usage, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "none.yaml").write_text("n_latent: 2\n")
    with pytest.raises(SystemExit, match="2"):
        cli.main(argv)
    err = capsys.readouterr().err
    assert err.startswith(f"usage: scpln {usage}".rstrip())
    assert message in err


def test_values_that_look_like_options_are_none():
    parser = CommandParser(prog="scpln fit")
    parser.add_argument("--seed", type=int)
    parser.add_argument("rest", nargs="*")
    assert parser.parse_args(["--seed", "-3", "-", "--", "--not-one"]).rest == ["-", "--not-one"]


def test_names_of_scvi_tools_lead_to_options():
    parser = of_command("fit")
    known = {option.removeprefix("--").replace("-", "_") for option in parser._option_string_actions}
    for name, (ours, _) in SCVI_NAMES.items():
        if ours in known and name not in known:
            assert f"did you mean --{ours.replace('_', '-')}?" in parser.nearest(f"--{name}")
