"""Words of the command line: its parser, which names the nearest option, and the package's messages in terms of options."""

from ._parser import CommandParser, OptionsParser
from ._translation import in_options

__all__ = ["CommandParser", "OptionsParser", "in_options"]
