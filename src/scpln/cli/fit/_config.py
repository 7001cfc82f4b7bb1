"""Options from a YAML file: ``scpln fit --config run.yaml``, and the file that repeats a run."""

from __future__ import annotations

import argparse
import shlex
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from scpln import __version__
from scpln.cli._errors import CommandError, ExitCode
from scpln.cli._files import whole_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

INPUT = "input"
ABOUT_THIS_RUN = ("config", "write_config", "force", "quiet", "debug")
"""Options that say how to run, not what: they are not written."""


MOST_BYTES, MOST_DEPTH, LONGEST = 100_000, 5, 200
"""Size and nesting of a file, and letters of a value that messages show."""


class ConfigError(CommandError):
    """A file of options is wrong, as a command line can be."""

    def __init__(self, path: Path, line: int | None, message: str) -> None:
        where = f"{path}" if line is None else f"{path}, line {line}"
        super().__init__(f"{where}: {message}", ExitCode.USAGE)


class ConfigEntry(NamedTuple):
    """One entry of a file: its key and value, and the line of the key."""

    key: str
    value: Any
    line: int


def with_config(argv: Sequence[str], options: argparse.ArgumentParser) -> list[str]:
    """Put the options of the file that ``--config`` names before those of the command line, which so win over them.

    Parameters
    ----------
    argv
        Arguments of a command.
    options
        Parser of its options alone. Those that may be repeated replace what the file says of them; so does the input.
    """
    for action in options._actions:
        action.required = False
    given, others = options.parse_known_args(list(argv))
    if given.config is None or {"-h", "--help"} & {*others}:
        return list(argv)
    repeated = {action.dest for action in options._actions if isinstance(action, argparse._AppendAction)}
    replaced = {name for name in repeated if getattr(given, name) is not None}
    if any(text == "-" or not text.startswith("-") for text in others):
        replaced.add(INPUT)
    return [*_arguments(given.config, options, replaced), *argv]


def write_config(path: Path, args: argparse.Namespace, options: argparse.ArgumentParser) -> None:
    """Write what a command was given, and the defaults that it filled in, so that ``--config`` repeats it."""
    import yaml

    values = {INPUT: _plain(getattr(args, INPUT))}
    for name, action in _by_name(options).items():
        value = getattr(args, action.dest)
        if value is None or action.dest in ABOUT_THIS_RUN or name != _name(action):
            continue
        values[name.replace("-", "_")] = _plain(value)
    quoted = shlex.quote(str(path)) if str(path).isprintable() else "THIS_FILE"  # a line break would end the comment
    header = f"# scpln {__version__}; to repeat this run: {options.prog} --config {quoted}\n"
    with whole_file(path) as temporary:
        temporary.write_text(header + yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _arguments(path: Path, options: argparse.ArgumentParser, replaced: set[str]) -> Iterator[str]:
    """The entries of a file as arguments, but those whose options are replaced."""
    by_name = _by_name(options)
    for entry in read_entries(path):
        name = entry.key.replace("_", "-")
        if name == INPUT:
            if not isinstance(entry.value, str):
                raise ConfigError(path, entry.line, f"{entry.key}: {_shown(entry.value)} is not a path")
            if INPUT not in replaced:
                yield f"./{entry.value}" if entry.value.startswith("-") and entry.value != "-" else entry.value
            continue
        if name not in by_name or name == "config":
            raise ConfigError(path, entry.line, _no_option(entry.key, [INPUT, *by_name], options.prog))
        arguments = _of_option(path, entry, name, by_name[name])
        if by_name[name].dest not in replaced:
            yield from arguments


def _of_option(path: Path, entry: ConfigEntry, name: str, action: argparse.Action) -> list[str]:
    """Arguments that one entry stands for, checked as argparse will check them."""
    values = entry.value if isinstance(entry.value, list) else [entry.value]
    if isinstance(entry.value, list) and not isinstance(action, argparse._AppendAction):
        raise ConfigError(path, entry.line, f"{entry.key}: a list was given, and this option takes one value")
    if action.nargs == 0:
        if not isinstance(entry.value, bool):
            raise ConfigError(path, entry.line, f"{entry.key}: {_shown(entry.value)} is not true or false")
        if isinstance(action, argparse.BooleanOptionalAction):
            return [f"--{name}" if entry.value else _negated(name)]
        return [f"--{name}"] if entry.value else []
    for value in values:
        problem = _problem(value, action)
        if problem:
            raise ConfigError(path, entry.line, f"{entry.key}: {problem}")
    return [f"--{name}={value}" for value in values]


def _problem(value: Any, action: argparse.Action) -> str:
    """What is wrong with the value of an option; empty if nothing is."""
    if value is None:
        return "it has no value; give it one, or leave it out for the default"
    if isinstance(value, bool):
        return f"{_shown(value)} is not a value of this option; if it is a name, write it in quotes"
    if not isinstance(value, str | int | float):
        return f"{_shown(value)} is not a text or a number"
    try:
        converted = str(value) if action.type is None else action.type(str(value))  # type: ignore[operator]
    except argparse.ArgumentTypeError as error:
        return _cut(str(error))
    except ValueError:
        return f"{_shown(value)} is not {'a whole number' if action.type is int else 'understood'}"
    if action.choices is not None and converted not in action.choices:
        return f"{_shown(value)} is not one of {', '.join(map(str, action.choices))}"
    return ""


def read_entries(path: Path) -> list[ConfigEntry]:
    """Entries of a YAML file, in its order."""
    import yaml

    try:
        text = _text(path)
        _check_structure(path, text)
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return []
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(path, node.start_mark.line + 1, "this is not a list of options such as 'n_latent: 20'")
        entries = [
            ConfigEntry(
                str(_constructed(path, loader, key)), _constructed(path, loader, value), key.start_mark.line + 1
            )
            for key, value in node.value
        ]
    except OSError as error:
        raise ConfigError(path, None, f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(path, None, "this is not a text file in UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(path, None if mark is None else mark.line + 1, f"not YAML: {problem}") from error
    _refuse_duplicates(path, entries)
    return entries


def _text(path: Path) -> str:
    """Text of a file of options, which is a short one on a disk."""
    if path.exists() and not path.is_file():
        raise ConfigError(path, None, "this is a directory, a pipe or a device; write the options to a file")
    with path.open("rb") as file:
        start = file.read(MOST_BYTES + 1)
    if len(start) > MOST_BYTES:
        raise ConfigError(path, None, f"this is longer than {MOST_BYTES:,} bytes, and no file of options is")
    return start.decode("utf-8")


def _check_structure(path: Path, text: str) -> None:
    """Refuse what takes long to read, or becomes large by it: deep nesting, and lists that stand for lists."""
    import yaml

    depth, anchored = 0, set()
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            anchored.discard(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.ScalarEvent) and event.anchor is not None:
            anchored.add(event.anchor)
        elif isinstance(event, yaml.AliasEvent) and event.anchor not in anchored:
            raise ConfigError(
                path, line, f"*{_cut(event.anchor)} does not stand for a text or a number; write out what it is"
            )
        if depth > MOST_DEPTH:
            raise ConfigError(path, line, f"this is nested more than {MOST_DEPTH} deep, and no options are")


def _constructed(path: Path, loader: Any, node: Any) -> Any:
    try:
        return loader.construct_object(node, deep=True)
    except ValueError as error:  # what looks like a date or a number and is none
        message = f"{_shown(node.value)} is not understood: {_cut(str(error))}; if it is a name, write it in quotes"
        raise ConfigError(path, node.start_mark.line + 1, message) from error


def _refuse_duplicates(path: Path, entries: list[ConfigEntry]) -> None:
    lines: dict[str, int] = {}
    for entry in entries:
        name = entry.key.replace("_", "-")
        if name in lines:
            msg = f"{_cut(entry.key)} was given in line {lines[name]} already; leave one of them"
            raise ConfigError(path, entry.line, msg)
        lines[name] = entry.line


def _by_name(options: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Actions by the long names of their options, without the dashes and without the ``no-`` of those that have both."""
    names: dict[str, argparse.Action] = {}
    for action in options._actions:
        long = [name.removeprefix("--") for name in action.option_strings if name.startswith("--")]
        if isinstance(action, argparse.BooleanOptionalAction):
            long = long[:1]
        names |= dict.fromkeys(long, action)
    return names


def _name(action: argparse.Action) -> str:
    """Long name of an option; the first of several."""
    return next(name.removeprefix("--") for name in action.option_strings if name.startswith("--"))


def _negated(name: str) -> str:
    return f"--no-{name}"


def _no_option(key: str, names: Sequence[str], command: str) -> str:
    if key == "config":
        return "config cannot be in the file itself; --config is for the command line"
    if len(key) > LONGEST:
        return f"{_cut(key)} is not an option of {command}; `{command} --help` lists them"
    close = get_close_matches(key.replace("_", "-"), names, n=1)
    hint = (
        f"; did you mean {close[0].replace('-', '_' if '_' in key else '-')}?"
        if close
        else f"; `{command} --help` lists them"
    )
    return f"{key} is not an option of {command}{hint}"


def _plain(value: Any) -> Any:
    """A value as YAML has it."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def _shown(value: Any) -> str:
    """A value as it stands in YAML, roughly."""
    return str(value).lower() if isinstance(value, bool) else _cut(repr(value))


def _cut(text: str) -> str:
    """A text without its middle where that is long."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}…{text[-LONGEST // 2 :]}"
