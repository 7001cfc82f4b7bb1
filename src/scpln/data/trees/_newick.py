"""Trees as nested nodes: Newick text, and objects with children."""

from __future__ import annotations

import re
from collections import Counter, deque
from typing import Any, NoReturn

#: Comments, quoted labels, marks, and other labels.
TOKEN = re.compile(r"\[[^\]]*\]|'(?:[^']|'')*'|[(),:;]|[^\s()\[\],:;']+")
Edges = list[tuple[str, str]]


def parse_newick(text: str) -> Edges:
    """Edges (parent, child) of a tree in Newick format; lengths of branches and comments are passed over.

    Parameters
    ----------
    text
        Such as ``"((CD4,CD8)T,B)root;"``. Inner nodes without a name, or whose name is not theirs alone, as that of a bootstrap support,
        are named ``"node1"``, ``"node2"``, ….

    Raises
    ------
    ValueError
        If parentheses are not balanced, or there is no tree, or more than one.

    Examples
    --------
    >>> parse_newick("((CD4:1,CD8:2)T:1,B:3);")
    [('node1', 'T'), ('node1', 'B'), ('T', 'CD4'), ('T', 'CD8')]
    """
    labels: list[str] = []
    children: list[list[int]] = []
    waiting: list[list[int]] = [[]]
    last, skip = "(", False
    for token in (found for found in TOKEN.findall(text) if not found.startswith("[")):
        if last == ";":
            _refuse(text)
        if token == ";":
            last = token
            continue
        if token in ",)" and last in "(,":
            waiting[-1].append(_add(labels, children, "", []))
        if token == "(":
            waiting.append([])
        elif token == ")":
            if len(waiting) == 1:
                _refuse(text)
            inner = waiting.pop()
            waiting[-1].append(_add(labels, children, "", inner))
        elif token not in ",:":
            if skip:  # the length of a branch
                skip = False
            elif last == ")":
                labels[waiting[-1][-1]] = _plain(token)
            else:
                waiting[-1].append(_add(labels, children, _plain(token), []))
        skip = token == ":"
        last = token if token in "(),:" else "x"
    if len(waiting) != 1 or len(waiting[0]) != 1 or not any(children):
        _refuse(text)
    return edges_of(labels, children, waiting[0][0])


def edges_of_nodes(root: Any) -> Edges:
    """Edges below an object that has ``name`` and ``children``, as ``skbio.TreeNode``."""
    labels: list[str] = []
    children: list[list[int]] = []
    waiting = deque([(root, -1)])
    while waiting:
        node, parent = waiting.popleft()
        index = _add(labels, children, "" if node.name is None else str(node.name), [])
        if parent >= 0:
            children[parent].append(index)
        waiting.extend((child, index) for child in node.children)
    return edges_of(labels, children, 0)


def edges_of(labels: list[str], children: list[list[int]], root: int) -> Edges:
    """Edges between nodes by name, all inner nodes named.

    Raises
    ------
    ValueError
        If two leaves have one name, or a leaf has none.
    """
    numbers = Counter(labels)
    leaves = Counter(label for label, below in zip(labels, children, strict=True) if not below)
    wrong = [label for label, number in leaves.items() if number > 1 or not label]
    if wrong:
        what = f"Two leaves of the tree are named {wrong[0]!r}" if wrong[0] else "A leaf of the tree has no name"
        msg = f"{what}. Give each leaf the name of one column of the table (var_names)."
        raise ValueError(msg)
    names, free, waiting, order = list(labels), 0, deque([root]), []
    while waiting:
        node = waiting.popleft()
        order.append(node)
        waiting.extend(children[node])
        if children[node] and (not labels[node] or numbers[labels[node]] > 1):
            free += 1
            while f"node{free}" in numbers:
                free += 1
            names[node] = f"node{free}"
    return [(names[node], names[child]) for node in order for child in children[node]]


def _add(labels: list[str], children: list[list[int]], label: str, below: list[int]) -> int:
    labels.append(label)
    children.append(below)
    return len(labels) - 1


def _plain(token: str) -> str:
    return token[1:-1].replace("''", "'") if token.startswith("'") else token


def _refuse(text: str) -> NoReturn:
    shown = text if len(text) <= 40 else text[:40] + "…"
    msg = f"{shown!r} is not one tree in Newick format. It should look like '((CD4,CD8)T,B)root;', with as many '(' as ')'."
    raise ValueError(msg)
