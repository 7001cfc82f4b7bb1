"""Sphinx configuration. Tutorials are copied in from their folder, and run as the pages are built."""

import os
import shutil
import sys
from pathlib import Path

from scpln import __version__

HERE = Path(__file__).parent

project = "scpln"
author = "The scpln developers"
copyright = f"2026, {author}"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinxcontrib.bibtex",
]
bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
autosummary_generate = True
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

html_theme = "sphinx_book_theme"
html_title = "scpln"
html_theme_options = {"show_toc_level": 2, "home_page_in_toc": True}


def copy_tutorials(_app: object) -> None:
    """Bring the notebooks, and what they read, beside the pages that link to them."""
    shutil.copytree(HERE.parent / "tutorials", HERE / "tutorials", dirs_exist_ok=True)


def setup(app):
    app.connect("builder-inited", copy_tutorials)
