"""What notebooks show of models and results."""

from html.parser import HTMLParser

import numpy as np
import pytest

import scpln
from scpln.utils._html import description, table

HOSTILE = "<img src=x onerror=alert(1)>&\"'</td>"


class Page(HTMLParser):
    """Text, and names of the elements, of well-formed HTML: each element is closed in its turn."""

    def __init__(self, html):
        super().__init__()
        self.open, self.elements, self.texts, self.styles = [], set(), [], []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.elements.add(tag)
        self.styles += [value for name, value in attrs if name == "style"]
        assert {name for name, _ in attrs} <= {"style", "scope"}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture
def adata():
    adata = scpln.datasets.simulate(60, 20, n_latent=2, n_batches=2, density=0.5)
    adata.obs[HOSTILE.replace("/", "")] = adata.obs["batch"]
    return adata


@pytest.mark.parametrize(
    "html", [description(HOSTILE, {HOSTILE: HOSTILE}), table(HOSTILE, [HOSTILE, "b"], [[HOSTILE, "1"]])]
)
def test_markup_in_names_is_text(html):
    page = Page(html)
    assert page.elements <= {"div", "table", "thead", "tbody", "tr", "th", "td"}
    assert page.texts.count(HOSTILE) == 3


def test_a_model_says_what_repr_says_and_what_to_do_next(adata):
    hostile = HOSTILE.replace("/", "")
    scpln.model.setup_anndata(adata, batch_key=hostile)
    model = scpln.model.PLNPCA(adata, n_latent=2)
    page = Page(model._repr_html_())
    assert page.elements <= {"div", "table", "tbody", "tr", "th", "td"}
    assert {"PLNPCA", "not trained", "model.train()"} <= set(page.texts)
    assert any(hostile in text for text in page.texts)
    model.train(max_epochs=3, progress=False)
    page = Page(model._repr_html_())
    assert "model.annotate()" in page.texts
    for line in repr(model).splitlines()[1:]:
        name, text = line.strip().split(": ", 1)
        assert page.texts[page.texts.index(name) + 1] == text


def test_no_colours_of_its_own(adata):
    """Text has the notebook's colour on the notebook's ground, light or dark; lines are half-transparent grey."""
    scpln.model.setup_anndata(adata)
    for html in (scpln.model.PLNPCA(adata, n_latent=2)._repr_html_(), table("a", ["b"], [["1"]])):
        declared = [part.strip() for style in Page(html).styles for part in style.split(";") if part.strip()]
        assert {part for part in declared if part.startswith(("color", "background"))} <= {
            "color: inherit",
            "background: none",
        }
        assert all("rgba(128, 128, 128" in part for part in declared if "solid" in part)


def test_evaluation_and_search(adata):
    scpln.model.setup_anndata(adata)
    model = scpln.model.PLNPCA(adata, n_latent=2)
    model.train(max_epochs=3, progress=False)
    evaluation = scpln.tl.evaluate(model, n_samples=30)
    page = Page(evaluation._repr_html_())
    assert f"{evaluation['elbo']:.4f}" in page.texts
    assert "iw_bound" in page.texts
    found = scpln.tune.search(scpln.model.PLNPCA, adata, {"n_latent": [1, 2]}, train={"max_epochs": 3}, progress=False)
    page = Page(found._repr_html_())
    assert {"trial", "n_latent", "bound", "seconds"} <= set(page.texts)
    assert f"{np.nanmax(found.results['bound']):.3f}" in page.texts
    assert "n_latent" in repr(found)
