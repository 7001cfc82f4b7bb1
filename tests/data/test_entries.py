"""Offsets of entries and masks as they are read: layers and obsm, dense, sparse and on disk, in any gene order."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData, set_options

import scpln
from scpln.data import _manager, read_cells
from scpln.model import PLNPCA, setup_anndata, setup_mudata

N, P = 40, 8


@pytest.fixture
def adata() -> AnnData:
    """Counts with NaN where they were not observed, and offsets with −∞ there."""
    random = np.random.default_rng(0)
    adata = scpln.datasets.simulate(n_obs=N, n_vars=P, n_latent=2, density=0.7, seed=0)
    adata.X = adata.X.toarray().astype(float)
    adata.layers["seen"] = random.random((N, P)) > 0.2
    adata.layers["seen"][:, 0] |= ~adata.layers["seen"].any(1)
    adata.layers["offset"] = random.normal(3.0, 1.0, (N, P))
    adata.layers["patchy"] = np.where(adata.layers["seen"], adata.X, np.nan)
    adata.layers["patchy offset"] = np.where(adata.layers["seen"], adata.layers["offset"], -np.inf)
    return adata


def registered(adata, **keys):
    setup_anndata(adata, **keys)
    return _manager.find(adata).registry


def both(adata, **keys):
    return registered(adata, **{"offset_key": "offset", "mask_key": "seen", **keys})


def dense(rows):
    rows = rows[0 : rows.shape[0]]
    return rows.toarray() if sp.issparse(rows) else np.asarray(rows)


def test_what_is_read(adata):
    """By hand: offsets around each gene's mean over observed entries, no size factors, and zeros where nothing was observed."""
    seen, offsets = adata.layers["seen"], adata.layers["offset"]
    data = read_cells(adata, both(adata)).data
    means = np.array([offsets[seen[:, j], j].mean() for j in range(P)])
    np.testing.assert_allclose(data.entries.offsets, offsets - means, atol=1e-12)
    np.testing.assert_array_equal(data.entries.observed, seen)
    np.testing.assert_array_equal(data.offsets, np.zeros(N))
    np.testing.assert_array_equal(dense(data.counts), adata.X * seen)


def test_size_factors_are_totals_of_observed_entries(adata):
    data = read_cells(adata, registered(adata, mask_key="seen")).data
    logs = np.log(np.maximum((adata.X * adata.layers["seen"]).sum(1), 1))
    np.testing.assert_allclose(data.offsets, logs - logs.mean())
    assert data.entries.offsets is None


def test_size_factors_that_are_named_are_added(adata):
    data = read_cells(adata, both(adata, size_factor_key="size_factor")).data
    logs = np.log(adata.obs["size_factor"].to_numpy())
    np.testing.assert_allclose(data.offsets, logs - logs.mean())


def test_nothing_that_was_not_observed_matters(adata):
    """Not even values that no counts have."""
    expected = read_cells(adata, both(adata))
    actual = read_cells(adata, both(adata, layer="patchy", offset_key="patchy offset"))
    seen = adata.layers["seen"]
    np.testing.assert_array_equal(dense(actual.data.counts), dense(expected.data.counts))
    np.testing.assert_array_equal(actual.data.entries.offsets[seen], expected.data.entries.offsets[seen])
    np.testing.assert_array_equal(actual.data.entries.offsets[~seen], 0)
    np.testing.assert_array_equal(actual.totals.checksums, expected.totals.checksums)


FORMS = {
    "csr": sp.csr_matrix,
    "csc": sp.csc_array,
    "float32": lambda values: values.astype(np.float32),
    "fortran": np.asfortranarray,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("slot", ["layers", "obsm"])
def test_every_form_and_place_is_read_alike(adata, form, slot):
    adata.layers["offset"] = adata.layers["offset"].astype(np.float32).astype(float)
    expected = read_cells(adata, both(adata)).data.entries
    for name in ("seen", "offset"):
        getattr(adata, slot)[name + " too"] = FORMS[form](adata.layers[name])
    actual = read_cells(adata, both(adata, offset_key="offset too", mask_key="seen too")).data.entries
    np.testing.assert_array_equal(actual.observed, expected.observed)
    np.testing.assert_allclose(actual.offsets, expected.offsets, atol=1e-12)


def test_a_data_frame_is_matched_by_name(adata):
    expected = read_cells(adata, both(adata)).data.entries
    for name in ("seen", "offset"):
        frame = pd.DataFrame(adata.layers[name], index=adata.obs_names, columns=adata.var_names)
        adata.obsm[name + " frame"] = frame.assign(extra=0)[["extra", *adata.var_names[::-1]]]
    adata.obsm["seen frame"] = adata.obsm["seen frame"].drop(columns="extra")
    actual = read_cells(adata, both(adata, offset_key="offset frame", mask_key="seen frame")).data.entries
    np.testing.assert_array_equal(actual.observed, expected.observed)
    np.testing.assert_allclose(actual.offsets, expected.offsets, atol=1e-12)


def test_missing_truth_values_of_a_data_frame_are_refused(adata):
    frame = pd.DataFrame(adata.layers["seen"], index=adata.obs_names, columns=adata.var_names).astype("boolean")
    frame.iloc[2, 3] = pd.NA
    adata.obsm["seen"] = frame
    del adata.layers["seen"]
    with pytest.raises(ValueError, match="has missing values, first in cell 'cell_2', gene 'gene_3'"):
        both(adata)


@pytest.mark.parametrize("arrange", ["reversed genes", "view", "more genes", "some cells"])
def test_cells_of_other_data_are_the_same(adata, arrange):
    registry = both(adata)
    expected = read_cells(adata, registry)
    cells, other = slice(None), adata
    if arrange == "reversed genes":
        other = adata[:, ::-1].copy()
    elif arrange == "view":
        cells, other = slice(3, 17, 2), adata[3:17:2]
    elif arrange == "more genes":
        extra = adata[:, :2].copy()
        extra.var_names = ["more_0", "more_1"]
        other = anndata.concat([extra, adata], axis=1, merge="same")
    chosen = np.array([5, 1, 1]) if arrange == "some cells" else None
    actual = read_cells(other, registry, chosen)
    cells = cells if chosen is None else chosen
    np.testing.assert_array_equal(actual.signatures(), expected.signatures()[cells])
    np.testing.assert_array_equal(actual.data.entries.offsets, expected.data.entries.offsets[cells])
    np.testing.assert_array_equal(dense(actual.data.counts), dense(expected.data.counts)[cells])


@pytest.mark.parametrize("form", [sp.csr_matrix, np.asarray], ids=["csr", "dense"])
def test_counts_on_disk_are_masked_as_they_are_read(adata, tmp_path, form):
    expected = read_cells(adata, both(adata))
    adata.X = form(adata.X)
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    registry = both(backed)
    cells = np.array([8, 2, 2])
    for actual, chosen in [(read_cells(backed, registry), slice(None)), (read_cells(backed, registry, cells), cells)]:
        np.testing.assert_array_equal(dense(actual.data.counts), dense(expected.data.counts)[chosen])
        np.testing.assert_array_equal(actual.signatures(), expected.signatures()[chosen])
    backed.file.close()


def test_signatures_see_offsets_and_masks(adata):
    registry = both(adata)
    before = read_cells(adata, registry)
    adata.layers["offset"][3, 2] += 1e-9
    seen = adata.layers["seen"]
    gene = np.flatnonzero((adata.X[7] == 0) & seen[7])[0]  # whose count says nothing of the change
    seen[7, gene] = False
    adata.layers["offset"][5] += np.where(seen[5], 0, 1.0)  # which expected counts see
    after = read_cells(adata, registry)
    assert set(np.flatnonzero(before.signatures() != after.signatures())) <= {3, 5, 7}
    assert {3, 7} <= set(np.flatnonzero(before.signatures() != after.signatures()))
    assert before.fingerprint() != after.fingerprint()


def test_a_mask_of_everything_is_none(adata):
    adata.layers["all"] = np.ones((N, P))
    with_mask, without = (read_cells(adata, registered(adata, mask_key=key)).data for key in ("all", None))
    np.testing.assert_array_equal(
        with_mask.gene_offsets(slice(None)), np.repeat(without.gene_offsets(slice(None)), P, 1)
    )
    np.testing.assert_array_equal(with_mask.counts, without.counts)


def test_what_is_not_given_is_not_kept(adata):
    registry = registered(adata)
    assert not {"offset_key", "mask_key"} & set(registry["setup_args"])
    assert "entries" not in registry["field_registries"]


def lacking(adata, *genes):
    adata.obsm["offset"] = pd.DataFrame(adata.layers.pop("offset"), adata.obs_names, adata.var_names).drop(
        columns=list(genes)
    )


def text_in(adata):
    del adata.layers["offset"]
    adata.obsm["offset"] = pd.DataFrame("a", adata.obs_names, adata.var_names)


def hidden(adata, cells=slice(None), genes=slice(None)):
    adata.layers["seen"][cells, genes] = False


WRONG = {
    "no layer": ({"offset_key": "ofset"}, None, r"has \'ofset\' \(offset_key\). Did you mean \'offset\'\?"),
    "no mask": (
        {"mask_key": "x"},
        None,
        r"Neither adata.layers nor adata.obsm has \'x\' \(mask_key\). They have \[\'seen\'",
    ),
    "not a name": ({"offset_key": ["offset"]}, None, "must be the name of one layer, or entry of obsm"),
    "narrow": (
        {},
        lambda adata: adata.obsm.update({"offset": adata.layers.pop("offset")[:, :5]}),
        r"adata.obsm\['offset'\] \(offset_key\) has shape \(40, 5\), but adata has 8 genes",
    ),
    "gene lacks": ({}, lambda adata: lacking(adata, "gene_3"), r"and it has no 'gene_3' \(1 lack\)"),
    "text": (
        {},
        text_in,
        "has a column 'gene_0' of (object|str), and must have numbers or truth values",
    ),
    "infinite": (
        {"mask_key": None, "offset_key": "patchy offset"},
        None,
        "is not finite for .* entries, first -inf in cell",
    ),
    "factors": (
        {},
        lambda adata: adata.layers.update(offset=np.exp(3 * adata.layers["offset"])),
        "Offsets are natural logarithms: of depths or exposures, pass np.log",
    ),
    "empty cell": (
        {},
        lambda adata: hidden(adata, cells=4),
        "says of 1 of 40 cells that nothing of them was observed, first 'cell_4'",
    ),
    "missing mask": (
        {},
        lambda adata: adata.layers.update(seen=np.where(adata.layers["seen"], 1, np.nan)),
        "has missing values, first in cell",
    ),
    "real values": ({"is_count_data": False}, None, "mask_key is for counts, and is_count_data=False"),
}


@pytest.mark.parametrize("case", WRONG)
def test_refused(adata, case):
    keys, spoil, message = WRONG[case]
    if spoil is not None:
        spoil(adata)
    with pytest.raises((TypeError, ValueError), match=message):
        both(adata, **keys)


@pytest.mark.filterwarnings("ignore:1 of 8 genes in adata.X have no counts")
def test_a_gene_that_was_never_observed_is_warned_of(adata):
    hidden(adata, genes=6)
    with pytest.warns(UserWarning, match="1 of 8 genes were observed in no cell .* first 'gene_6'"):
        registry = both(adata)
    np.testing.assert_allclose(
        registry["field_registries"]["entries"]["state_registry"]["center"][6], adata.layers["offset"][:, 6].mean()
    )


def test_new_data_must_have_them(adata):
    registry = both(adata)
    other = AnnData(adata.X, adata.obs, adata.var, layers={"seen": adata.layers["seen"]})
    with pytest.raises(ValueError, match=r"Neither adata.layers nor adata.obsm has \'offset\' \(offset_key\)"):
        read_cells(other, registry)


def test_modalities_have_their_own(adata):
    other = AnnData(adata.X[5:, :3], adata.obs[5:], pd.DataFrame(index=["a", "b", "c"]))
    with set_options(pull_on_update=False):
        mdata = MuData({"rna": adata, "prot": other})
        options = {"rna": {"offset_key": "offset", "mask_key": "seen"}, "prot": None}
        setup_mudata(mdata, modalities=options)
        registry = _manager.find(mdata).registry
        own = read_cells(adata, both(adata)).data.entries
        cells = np.array([30, 2])
        for chosen, read in [(slice(None), read_cells(mdata, registry)), (cells, read_cells(mdata, registry, cells))]:
            np.testing.assert_array_equal(read.data.entries.offsets[:, :P], own.offsets[chosen])
            np.testing.assert_array_equal(read.data.entries.observed[:, :P], own.observed[chosen])
            assert (read.data.entries.offsets[:, P:] == 0).all()
            assert read.data.entries.observed[:, P:].all()
        model = PLNPCA(mdata, n_latent=1)
        assert "mdata['rna'].X (8, offset_key='offset', mask_key='seen')" in repr(model)
        model.train(max_epochs=3, progress=False)
        assert np.isfinite(model.get_elbo())
