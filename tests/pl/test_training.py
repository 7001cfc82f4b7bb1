"""History of training, and variance that components explain."""

import numpy as np

import scpln


def test_history_shows_what_was_stored(fitted):
    bound = fitted.uns["plnpca"]["history"]["elbo"]
    (line,) = scpln.pl.history(fitted, show=False).get_lines()
    iterations, below = line.get_data()
    np.testing.assert_allclose(bound.max() - bound[iterations - 1], below)
    assert (below > 0).all()


def test_history_of_epochs_has_training_and_validation_cells(fitted):
    ax = scpln.pl.history(fitted, key="mixture", show=False)
    stored = fitted.uns["mixture"]["history"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "training cells",
        "validation cells",
        f"epoch {(kept := fitted.uns['mixture']['training']['best_epoch'])}, whose weights are kept",
    ]
    *lines, mark = ax.get_lines()
    assert set(mark.get_xdata()) == {kept}
    for line, name in zip(lines, ("train", "validation"), strict=True):
        np.testing.assert_allclose(line.get_ydata(), stored[f"elbo_{name}"])


def test_history_of_version_0_1_0_is_turned(adata):
    """Its bounds of epochs were minus the bound."""
    now = scpln.pl.history(adata, key="mixture", show=False).get_lines()[0].get_ydata()
    del adata.uns["mixture"]["objective"]
    history = adata.uns["mixture"]["history"]
    history |= {name: -history[name] for name in ("elbo_train", "elbo_validation")}
    np.testing.assert_array_equal(scpln.pl.history(adata, key="mixture", show=False).get_lines()[0].get_ydata(), now)


def test_a_single_epoch_is_a_point(adata):
    adata.uns["mixture"]["history"] = {"elbo_train": np.array([3.0]), "elbo_validation": np.array([4.0])}
    ax = scpln.pl.history(adata, key="mixture", show=False)
    assert [line.get_marker() for line in ax.get_lines()[:2]] == [".", "."]


def test_history_of_stochastic_training(adata):
    adata.uns["plnpca"]["history"] = {"elbo": np.array([-9.0, -8.0]), "stochastic_bound": np.array([-8.0, -7.0, -6.5])}
    curve, start = scpln.pl.history(adata, show=False).get_lines()
    np.testing.assert_array_equal(curve.get_data(), ([10, 20, 30], [-8, -7, -6.5]))
    np.testing.assert_array_equal(start.get_ydata(), -8)


def test_legends_are_not_over_the_data(fitted):
    ax = scpln.pl.history(fitted, key="mixture", show=False)
    ax.figure.draw_without_rendering()
    assert ax.get_legend().get_window_extent().y0 >= ax.get_window_extent().y1


def test_variance_explained_shows_what_was_stored(adata):
    stored = adata.uns["plnpca"]["variance_explained"]
    bars = scpln.pl.variance_explained(adata, show=False).patches
    np.testing.assert_allclose([bar.get_height() for bar in bars], stored)
    del adata.uns["plnpca"]
    bars = scpln.pl.variance_explained(adata, show=False).patches
    np.testing.assert_allclose([bar.get_height() for bar in bars], stored, rtol=1e-5)
