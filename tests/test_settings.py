"""Settings agree with scvi-tools', and messages are seen once."""

import logging
import random
import subprocess
import sys

import numpy as np
import pytest
import scvi
import torch

import scpln
from scpln.model import PLNPCA, setup_anndata

settings = scpln.settings


@pytest.fixture(autouse=True)
def as_before():
    with settings.override(**{name: getattr(settings, name) for name in settings._NAMES}):
        yield


def draws():
    return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002


def run_python(code):
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout, done.stderr


def test_seed_and_threads_are_those_of_scvi_tools():
    settings.seed, settings.threads, settings.progress_bar_style = 7, 2, "rich"
    assert (scvi.settings.seed, scvi.settings.num_threads, scvi.settings.progress_bar_style) == (7, 2, "rich")
    assert torch.get_num_threads() == 2
    scvi.settings.seed, scvi.settings.num_threads = 8, 1
    assert (settings.seed, settings.threads) == (8, 1)
    settings.seed = settings.threads = None
    assert scvi.settings.seed is None
    assert scvi.settings.num_threads is None
    assert repr(settings).startswith("Settings(seed=None, verbosity='info', threads=None, progress_bar_style='rich'")


def test_setting_the_seed_repeats_global_draws():
    settings.seed = 7
    first = draws()
    settings.seed = 7
    assert draws() == first


def test_models_take_the_seed_and_leave_global_numbers():
    adata = scpln.datasets.simulate(n_obs=50, n_vars=10, n_latent=1)
    setup_anndata(adata)
    model = PLNPCA(adata, n_latent=1)
    model.train(progress=False)
    with settings.override(seed=3):
        state = torch.get_rng_state()
        drawn = model.posterior_predictive_sample().todense()
        assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(drawn, model.posterior_predictive_sample(seed=3).todense())
    assert (drawn != model.posterior_predictive_sample().todense()).any()


def test_override_puts_everything_back():
    settings.seed = 5
    draws()
    torch.set_num_threads(1)
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    with pytest.raises(RuntimeError), settings.override(seed=1, threads=3, verbosity="error"):
        assert (settings.seed, settings.threads, settings.verbosity) == (1, 3, logging.ERROR)
        inside = draws()
        raise RuntimeError
    assert (settings.seed, settings.threads, settings.verbosity) == (5, None, logging.INFO)
    assert torch.get_num_threads() == 1
    assert random.getstate() == states[0]
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])
    with settings.override(seed=1):
        assert draws() == inside


def test_verbosity_is_the_level_of_the_logger():
    logger = logging.getLogger("scpln")
    for level, number in [("debug", 10), ("WARNING", 30), (logging.ERROR, 40), (17, 17)]:
        settings.verbosity = level
        assert settings.verbosity == logger.level == number
    assert "verbosity=17" in repr(settings)
    logger.setLevel("INFO")
    assert "verbosity='info'" in repr(settings)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("seed", -1, ValueError, r"seed=-1, but it must be from 0 to 2\*\*32 - 1"),
        ("seed", 2**32, ValueError, "seed=4294967296"),
        ("seed", 1.5, TypeError, "seed=1.5, but it must be a whole number"),
        ("seed", True, TypeError, "seed=True"),
        ("threads", 0, ValueError, "threads=0, but it must be at least 1"),
        ("verbosity", "loud", ValueError, "verbosity='loud' is not a level; choose from"),
        ("verbosity", None, TypeError, "verbosity=None is not a level"),
        ("progress_bar_style", "dots", ValueError, r"choose from \['tqdm', 'rich'\]"),
        ("sead", 1, AttributeError, "There is no setting 'sead'; there are"),
    ],
)
def test_what_makes_no_sense_is_refused(name, value, error, message):
    before = repr(settings)
    with pytest.raises(error, match=message):
        setattr(settings, name, value)
    assert repr(settings) == before


def test_override_refuses_what_is_not_a_setting():
    with pytest.raises(ValueError, match="'sead' is not a setting"), settings.override(sead=1):
        pass


def test_verbosity_and_reading_load_nothing_heavy():
    code = "import scpln, sys; scpln.settings.verbosity = 'error'; repr(scpln.settings); print(*sys.modules)"
    assert not {"scvi", "torch", "numpy"} & set(run_python(code)[0].split())


SAY = "logging.getLogger('scpln').info('Registered'); logging.getLogger('scpln').debug('Details')"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("", "", "INFO     Registered\n"),
        ("", "scpln.settings.verbosity = 'warning'", ""),
        ("", "scpln.settings.verbosity = 'debug'", "INFO     Registered\nDEBUG    Details\n"),
        ("logging.basicConfig(format='mine: %(message)s', level=10)", "", "mine: Registered\n"),
        ("logging.getLogger('scpln').setLevel('ERROR')", "", ""),
        ("logging.getLogger('scpln').addHandler(logging.StreamHandler())", "", "Registered\n"),
    ],
)
def test_messages_are_seen_once(before, after, expected):
    assert run_python(f"import logging\n{before}\nimport scpln\n{after}\n{SAY}")[1] == expected
