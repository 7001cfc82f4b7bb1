"""Names that can be stored in files, and long values in messages."""

from __future__ import annotations


def storable_name(name: str, value: object) -> str:
    """`value` as a name under which .h5ad, .h5mu and .zarr files can store something, and find it again.

    Examples
    --------
    >>> storable_name("key_added", "my/run")
    Traceback (most recent call last):
        ...
    ValueError: key_added='my/run', but it must be a name that files can store: text, without '/', ...
    """
    msg = (
        f"{name}={shortened(value)}, but it must be a name that files can store: text, without '/', '\\0' and lone "
        "surrogates, not '' or '.', and not beginning with '_scvi_'."
    )
    if not isinstance(value, str):
        raise TypeError(msg)
    if not is_storable(value) or value.startswith("_scvi_"):  # scvi-tools' own, of the process
        raise ValueError(msg)
    return value


def is_storable(name: object) -> bool:
    r"""Whether HDF5 and Zarr take a name for what it is: not for a path, and not for the end of a text.

    Examples
    --------
    >>> is_storable("T cells"), is_storable("T/NK"), is_storable(".."), is_storable("\ud800"), is_storable(3)
    (True, False, False, False, False)
    """
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\0" in name:
        return False
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def shortened(value: object, most: int = 80) -> str:
    """`value` as Python writes it, without its middle where that is long.

    Examples
    --------
    >>> shortened("a" * 10**6, most=20)
    "'aaaaaaaa…aaaaaaaa'"
    """
    text = repr(value)
    return text if len(text) <= most else f"{text[: (most - 1) // 2]}…{text[-((most - 1) // 2) :]}"
