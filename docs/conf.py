"""Sphinx configuration. Tutorials are copied in from their folder, and run as the pages are built."""

import os
import shutil
import sys
from pathlib import Path

from sphinx.errors import ExtensionError
from sphinx.ext.napoleon import NumpyDocstring

from scpln import __version__

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from _reference import members, missing_anchors  # noqa: E402

project = "scpln"
author = "The scpln developers"
copyright = f"2026, {author}"
version = release = __version__

extensions = [
    "matplotlib.sphinxext.plot_directive",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx-mathjax-offline",  # MathJax among the pages, which are read without a network, too
    "sphinxcontrib.bibtex",
]
templates_path = ["_templates"]
bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
autosummary_generate = True
autosummary_context = {"shown_members": members}
suppress_warnings = ["config.cache"]  # a function of the templates is the same in every build
add_module_names = False
toc_object_entries_show_parents = "hide"
autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
exclude_patterns = ["_build", "tutorials/README.md"]

# A tutorial whose code fails stops the build. Their kernels find the commands of this environment and take one thread (on a busy
# machine, small steps on several wait for each other); tqdm need not say that notebooks could have widgets.
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_execution_cache_path = str(HERE / "_build" / "notebooks")
nb_merge_streams = True
nb_execution_show_tb = True
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PYTHONWARNINGS", "ignore:IProgress not found")
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

# Figures are drawn by the package as the pages are built: docs/figures, and the examples of scpln.pl.
plot_basedir = str(HERE)
plot_include_source = True  # of examples; the scripts in docs/figures are left out where they are shown
plot_formats = [("png", 130)]
plot_html_show_formats = False
plot_html_show_source_link = False
plot_rcparams = {"font.size": 9, "figure.autolayout": False}
plot_apply_rcparams = True

html_theme = "sphinx_book_theme"
html_title = "scpln"
html_static_path = ["_static"]
html_css_files = ["scpln.css"]
# Everything that the bar on top would hold stands beside the pages already.
html_theme_options = {"show_toc_level": 2, "home_page_in_toc": True, "navbar_persistent": []}
html_sidebars = {"**": ["navbar-logo.html", "search-button-field.html", "sbt-sidebar-nav.html"]}


def copy_tutorials(_app: object) -> None:
    """Bring the notebooks, and what they read, beside the pages that link to them."""
    shutil.copytree(HERE.parent / "tutorials", HERE / "tutorials", dirs_exist_ok=True)


def returns_as_written(self: NumpyDocstring, _section: str) -> list[str]:
    """What a function returns, as prose and lists of its columns; napoleon takes each of its lines for a type."""
    first, *others = self._dedent(self._consume_to_next_section()) or [""]
    return [f":returns: {first}", *(f"   {line}" if line else "" for line in others), ""]


def check_reference(app: object, failed: Exception | None) -> None:
    """Stop where a public object, or a method of one, has no entry of its own."""
    if failed is None and app.builder.name == "html" and (missing := missing_anchors(app.outdir)):
        msg = f"The reference has no entry for {', '.join(missing)}."
        raise ExtensionError(msg)


def setup(app):
    NumpyDocstring._parse_returns_section = returns_as_written
    app.connect("builder-inited", copy_tutorials)
    app.connect("build-finished", check_reference)
