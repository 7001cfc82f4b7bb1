# Needs python3 (3.11 or later) and make. Every target installs what it needs, in the tested versions of constraints.txt.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DEMO   := demo
PINS   := -c constraints.txt --build-constraint constraints.txt
PIP     = $(1)/bin/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test bench lint docs dist clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.run  ## raw counts of 700 blood cells to an annotated .h5ad and a UMAP figure in demo/
	@mkdir -p $(DEMO)
	$(BIN)/scpln datasets pbmc68k_reduced --out $(DEMO)/pbmc68k_reduced.h5ad --force
	$(BIN)/scpln fit $(DEMO)/pbmc68k_reduced.h5ad --model plnpca --layer counts --size-factor-key n_counts \
	    --out $(DEMO)/pbmc68k_plnpca.h5ad --figure $(DEMO)/umap.png --color bulk_labels --color plnpca_leiden --force
	$(BIN)/scpln evaluate $(DEMO)/pbmc68k_plnpca.h5ad --labels-key bulk_labels --layer counts --size-factor-key n_counts

# Two processes, each with whole modules and classes, which share their fits.
test: $(VENV)/.test  ## tests, and the examples of the docstrings (one after the other: PYTEST_ARGS="-n 0")
	$(BIN)/python -m pytest --numprocesses 2 --dist loadscope $(PYTEST_ARGS)

bench: $(VENV)/.run .venv-peer/.bench  ## measure against the peer, from ten seeds, growth, posteriors, known eigenvectors, consistency, estimators, hostile counts, intervals, differential expression, autoencoders, discrete codes, labels, CITE-seq, usefulness, integration, compositions, gene space and trees (a day; DATA=folder of real sets, STUDIES=data of plntree's wheel, AFFILIATIONS=table of pyPLNmodels' wheel)
	$(BIN)/python benchmarks/plnpca.py --peer-python .venv-peer/bin/python $(if $(DATA),--data $(DATA)) $(BENCH_ARGS)
	$(BIN)/python benchmarks/plnpca.py --seeds 10 $(if $(DATA),--data $(DATA)) $(BENCH_ARGS)
	$(BIN)/python benchmarks/growth.py $(BENCH_ARGS)
	$(BIN)/python benchmarks/posteriors.py $(if $(DATA),--data $(DATA))
	$(BIN)/python benchmarks/known_basis.py
	$(BIN)/python benchmarks/consistency.py
	$(BIN)/python benchmarks/estimators.py
	$(BIN)/python benchmarks/coefficient_coverage.py
	$(BIN)/python benchmarks/rank_selection.py $(if $(DATA),--data $(DATA))
	$(if $(DATA),$(BIN)/python benchmarks/gene_mixtures.py --data $(DATA))
	$(BIN)/python benchmarks/mixture_classifiers.py
	$(if $(DATA),$(BIN)/python benchmarks/composition_study.py --data $(DATA) $(if $(STUDIES),--studies $(STUDIES)))
	$(if $(DATA),$(BIN)/python benchmarks/count_vqvae.py --data $(DATA))
	$(if $(DATA),$(BIN)/python benchmarks/label_transfer.py --data $(DATA))
	$(if $(STUDIES),$(BIN)/python benchmarks/tree.py $(STUDIES))
	$(if $(DATA),$(BIN)/python benchmarks/tree_walk.py --data $(DATA) $(if $(AFFILIATIONS),--affiliations $(AFFILIATIONS)) $(if $(STUDIES),--studies $(STUDIES)))
	$(BIN)/python benchmarks/hostile_counts.py $(BENCH_ARGS)
	$(BIN)/python benchmarks/interval_coverage.py $(BENCH_ARGS)
	$(BIN)/python benchmarks/differential.py $(if $(DATA),--data $(DATA)) $(BENCH_ARGS)
	$(if $(DATA),$(BIN)/python benchmarks/autoencoder_clusters.py --data $(DATA))
	$(if $(DATA),$(BIN)/python benchmarks/autoencoder_speed.py --data $(DATA))
	$(if $(DATA),$(BIN)/python benchmarks/autoencoder_speed.py --data $(DATA) --stability)
	$(if $(DATA),$(BIN)/python benchmarks/multimodal.py --data $(DATA))
	$(if $(DATA),$(BIN)/python benchmarks/usefulness.py --data $(DATA))
	$(if $(DATA),$(BIN)/python benchmarks/own_clusters.py --data $(DATA))
	$(if $(DATA),$(BIN)/python benchmarks/integration.py --data $(DATA))
	$(if $(DATA),$(BIN)/python benchmarks/gene_space.py --data $(DATA) --peer-python .venv-peer/bin/python)
	$(if $(DATA),$(BIN)/python benchmarks/family.py --data $(DATA) --peer-python .venv-peer/bin/python)

lint: $(VENV)/.dev  ## formatter, linter and type checker
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/.doc  ## the documentation, in docs/_build/html
	$(BIN)/python -m sphinx -W -b html docs docs/_build/html

dist: $(VENV)/.dist  ## wheel and sdist in dist/, each installed into an empty environment and tried there
	rm -rf dist
	$(BIN)/python -m build --dependency-constraints-txt constraints.txt
	$(BIN)/python -m twine check --strict dist/*
	$(PYTHON) -m venv --clear .venv-smoke
	$(call PIP,.venv-smoke) -c constraints.txt pip
	$(call PIP,.venv-smoke) $(PINS) dist/*.whl
	.venv-smoke/bin/python -I tests/smoke.py
	$(call PIP,.venv-smoke) $(PINS) --force-reinstall --no-deps dist/*.tar.gz
	.venv-smoke/bin/python -I tests/smoke.py

clean:  ## remove outputs and caches, but not the environments (.venv, .venv-peer, .venv-smoke)
	rm -rf $(DEMO) build dist docs/_build docs/api/generated .pytest_cache .mypy_cache .ruff_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# Environments. A stamp says that a dependency group is installed, so that a second call starts at once.
%/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "scpln needs Python 3.11 or later; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "making $* (some minutes, once)"
	$(PYTHON) -m venv $*

$(VENV)/.run: pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	$(call PIP,$(VENV)) -c constraints.txt pip
	$(call PIP,$(VENV)) $(PINS) --editable .
	@touch $@

$(VENV)/.test $(VENV)/.dev $(VENV)/.doc $(VENV)/.dist: $(VENV)/.%: $(VENV)/.run
	$(call PIP,$(VENV)) $(PINS) --group $*
	@touch $@

# The peer needs an old setuptools, so it lives apart.
.venv-peer/.bench: pyproject.toml constraints.txt | .venv-peer/pyvenv.cfg
	$(call PIP,.venv-peer) -c constraints.txt pip
	$(call PIP,.venv-peer) $(PINS) --group bench
	@touch $@
