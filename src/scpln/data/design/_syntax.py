"""What a formula may say: columns of obs, and functions that are listed here. It is computed by evaluating it, and may come from a file."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from formulaic import SimpleFormula

#: Functions of numbers, and those that learn something of the training cells, which is kept.
FUNCTIONS = ("I", "log", "log2", "log10", "exp", "bs", "cr", "cs", "cc", "poly", "center", "scale", "standardize")
#: Codings of categories, in ``C(column, coding)``.
CODINGS = ("Treatment", "Sum", "Helmert", "Diff", "Poly")
_OF_MODULES = {
    "np": ("log", "log1p", "log2", "log10", "sqrt", "exp", "sin", "cos", "abs", "square", "minimum", "maximum"),
    "contr": ("treatment", "sum", "helmert", "diff", "poly", "SAS"),
}
_PLAIN = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.keyword, ast.Constant, ast.List, ast.Tuple),
    *(ast.Name, ast.Attribute, ast.Load, ast.operator, ast.unaryop, ast.cmpop),
)


class Formula(NamedTuple):
    """A formula that may be evaluated, and the columns of obs that are in it.

    Parameters
    ----------
    terms
        As formulaic has parsed it.
    columns
        Columns of obs, in the order in which they come.
    categorical
        Those of them that are in ``C(...)``.
    elsewhere
        Those that are outside of it.
    """

    terms: SimpleFormula
    columns: list[str]
    categorical: list[str]
    elsewhere: list[str]


def parse(text: str) -> Formula:
    """Parse a formula, and refuse what is not one of terms, or is made of anything but columns and known functions.

    Raises
    ------
    ValueError
        If it cannot be read, has another side, no intercept, or something in it that is not known.

    Examples
    --------
    >>> found = parse("~ C(dose) * age + np.log(age)")
    >>> found.columns, found.categorical
    (['dose', 'age'], ['dose'])
    """
    from formulaic import Formula as Parsed
    from formulaic import SimpleFormula
    from formulaic.errors import FormulaicError

    try:
        terms = Parsed(text)
    except (FormulaicError, SyntaxError, ValueError) as error:
        wildcard = "." in text.replace("~", " ").split()
        reason = "`.` does not stand for columns here: name them" if wildcard else " ".join(str(error).split())
        msg = f"design={text!r} is not a formula: {reason}. Write such as '~ condition * age + donor'."
        raise ValueError(msg) from error
    if not isinstance(terms, SimpleFormula):
        msg = f"design={text!r} has more than one part. Give one side only, such as '~ condition + age': the counts are in the data."
        raise ValueError(msg)
    if not any(str(term) == "1" for term in terms):
        msg = (
            f"design={text!r} has no intercept, and each gene has a level of its own. Leave out 0 + or - 1: a category's column "
            "is then its difference from the first."
        )
        raise ValueError(msg)
    found = {factor.expr: factor.eval_method.value for term in terms for factor in term.factors}
    # Whether each use of a column is in C(...), by its name; what is no literal and no column is Python.
    uses = [(expression, False) for expression, method in found.items() if method == "lookup"]
    for expression, method in found.items():
        if method == "python":
            uses += _uses(expression, text)
    categorical = {name for name, is_category in uses if is_category}
    order = sorted(dict(uses), key=lambda name: (text.find(name), name))
    return Formula(
        terms,
        order,
        [name for name in order if name in categorical],
        [name for name, is_category in uses if not is_category],
    )


def _uses(expression: str, text: str) -> Iterator[tuple[str, bool]]:
    """Columns in an expression of Python, and whether they stand in ``C(...)``; an error if there is anything else."""
    if "`" in expression:
        msg = f"design={text!r} has `{expression}`: a function takes a column whose name is one word, without backticks. Rename it in obs."
        raise ValueError(msg)
    tree = ast.parse(expression, mode="eval")
    functions = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    owners = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    categories = {
        id(node.args[0]) for node in ast.walk(tree) if isinstance(node, ast.Call) and _is_c(node) and node.args
    }
    for node in ast.walk(tree):
        name = ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""
        if not isinstance(node, _PLAIN):
            raise ValueError(_unknown(ast.unparse(node), text))
        if isinstance(node, ast.Call) and not isinstance(node.func, ast.Name | ast.Attribute):
            raise ValueError(_unknown(ast.unparse(node), text))
        if isinstance(node, ast.Attribute):
            owner, _, own = name.partition(".")
            if own not in _OF_MODULES.get(owner, ()):
                raise ValueError(_unknown(name, text))
        elif isinstance(node, ast.Name) and id(node) in functions:
            if name not in (*FUNCTIONS, *CODINGS, "C"):
                raise ValueError(_unknown(f"{name}(…)", text))
        elif isinstance(node, ast.Name) and id(node) not in owners and name not in CODINGS:
            yield name, id(node) in categories


def _is_c(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id == "C"


def _unknown(what: str, text: str) -> str:
    known = ", ".join([*FUNCTIONS, "C", *(f"np.{name}" for name in _OF_MODULES["np"])])
    return (
        f"design={text!r} has {what}, which is none of the functions that a design keeps with the model: {known}. Compute it as a "
        "column of obs, and name that."
    )


def columns_in(text: str) -> list[str]:
    """Columns of obs that a formula names.

    Examples
    --------
    >>> columns_in("~ condition * bs(age, df=4)")
    ['condition', 'age']
    """
    return parse(text).columns
