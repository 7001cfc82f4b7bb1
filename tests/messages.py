"""Every message that the package can raise, warn of or log, as its source has it: fixed text, and `…` for what varies.

Read from the syntax trees, so that a message is found whether or not a test provokes it. The expression of a message is
followed through names, conditions, joined texts and functions of the package, as far as is needed to find text.
"""

import ast
import re
from dataclasses import dataclass
from functools import cache

#: Stands for what varies.
ELLIPSIS = "…"
#: A message with so many letters of fixed text is recognised by them; in a shorter one, what varies is looked into.
ENOUGH = 12
#: How many names and calls are followed, one from another.
DEEPEST = 6
#: Calls that say something without raising, and the position of the message in their arguments.
SAYING = {"warn": 0, "warning": 0, "add_note": 0, "_fail": 0}
#: Exceptions whose message is not the first argument.
POSITIONS = {"ConfigError": 2, "ArgumentError": 1}
SAYS = re.compile(r"\braise \w|\b(warn|warning|_fail|add_note)\(")


@dataclass(frozen=True)
class Message:
    """Text of a message, and the place in the source that says it."""

    text: str
    where: str


@cache
def pieces(text):
    """The fixed pieces of a message, without what is mere layout."""
    plain = " ".join(text.replace("`", "").split())
    return [piece.strip() for piece in plain.split(ELLIPSIS) if re.search(r"\w", piece)]


@cache
def size(text):
    """How many letters of a message are fixed."""
    return len(re.findall(r"\w", text))


def messages(folder):
    """All messages of the Python files in a folder, each once; those without any fixed text are empty."""
    sources = {file.relative_to(folder).as_posix(): file.read_text(encoding="utf-8") for file in folder.rglob("*.py")}
    trees = {path: ast.parse(source) for path, source in sorted(sources.items()) if SAYS.search(source)}
    reader = _Reader()
    for tree in trees.values():
        reader.index(tree, tree)
    return list(dict.fromkeys(message for path, tree in trees.items() for message in reader.read(path, tree)))


class _Reader:
    """Looks up what names and functions stand for. A scope is the node of a function, or of a file."""

    def __init__(self):
        self.functions = {}
        self.assigned = {}
        self.said = {}

    def index(self, node, scope):
        """Find what is assigned, returned and said below a node."""
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Assign):
                self._index_assignment(child, scope)
            elif isinstance(child, ast.Return) and child.value is not None and isinstance(scope, ast.FunctionDef):
                self.functions.setdefault(scope.name, []).append((child.value, scope))
            self.said.setdefault(scope, []).extend(_said(child))
            self.index(child, child if isinstance(child, ast.FunctionDef) else scope)

    def _index_assignment(self, node, scope):
        for target in node.targets:
            both = isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
            for name, value in zip(target.elts, node.value.elts, strict=True) if both else [(target, node.value)]:
                if isinstance(name, ast.Name):
                    self.assigned.setdefault((scope, name.id), []).append(value)

    def read(self, path, tree):
        """Messages of a file."""
        scopes = [node for node in ast.walk(tree) if node in self.said]
        for scope in scopes:
            for text in [text for node in self.said[scope] for text in self.texts(node, scope)]:
                yield Message(
                    re.sub(r"%[sd]", ELLIPSIS, " ".join(text.split())), f"{path}: {getattr(scope, 'name', '')}"
                )

    def texts(self, node, scope, depth=0):
        """Texts that an expression can have."""
        if isinstance(node, ast.Constant):
            return [str(node.value)]
        if isinstance(node, ast.Starred):
            return self.texts(node.value, scope, depth)
        if isinstance(node, ast.Tuple):  # a message and an exit code
            return self.texts(node.elts[0], scope, depth)
        if isinstance(node, ast.IfExp):
            return [*self.texts(node.body, scope, depth), *self.texts(node.orelse, scope, depth)]
        if isinstance(node, ast.JoinedStr):
            return self._joined(node, node.values, scope, depth)
        if isinstance(node, ast.BinOp):
            return self._joined(node, [node.left, node.right], scope, depth)
        if depth == DEEPEST:
            return [ELLIPSIS]
        found = []
        if isinstance(node, ast.Name):
            found = [(value, scope) for value in self.assigned.get((scope, node.id), [])]
        elif isinstance(node, ast.Call):
            found = self.functions.get(_name(node), [])
        return [text for value, where in found for text in self.texts(value, where, depth + 1)] or [ELLIPSIS]

    def _joined(self, node, parts, scope, depth):
        """Texts of parts in a row."""
        plain = _fixed(node)
        if size(plain) >= ENOUGH:
            return [plain]
        texts = [""]
        for part in parts:
            inner = part.value if isinstance(part, ast.FormattedValue) else part
            texts = [text + more for text in texts for more in self.texts(inner, scope, depth)]
        return texts


def _fixed(node):
    """The text of an expression as far as it stands there."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_fixed, node.values))
    if isinstance(node, ast.BinOp):
        return _fixed(node.left) + _fixed(node.right)
    return ELLIPSIS


def _said(node):
    """Expressions of the messages that a node raises, warns of or logs."""
    if isinstance(node, ast.Raise):
        calls = [node.exc.body, node.exc.orelse] if isinstance(node.exc, ast.IfExp) else [node.exc]
        calls = [call for call in calls if isinstance(call, ast.Call)]
        return [argument for call in calls for argument in call.args[POSITIONS.get(_name(call), 0) :][:1]]
    if isinstance(node, ast.Call) and _name(node) in SAYING:
        return node.args[SAYING[_name(node)] :][:1]
    if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):  # one that makes its message itself
        calls = [call for call in ast.walk(node) if isinstance(call, ast.Call) and _name(call) == "__init__"]
        return [argument for call in calls for argument in call.args[:1]]
    return []


def _name(call):
    """Last name of what is called."""
    return getattr(call.func, "attr", getattr(call.func, "id", ""))
