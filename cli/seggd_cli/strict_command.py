"""A command that refuses options that it would otherwise ignore.

It refuses an empty value, a repeated single-value option, and an option given without the option that it needs.
For a repeated option, the parser alone would silently keep only the last value.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from typer.core import TyperCommand

from seggd_rt.errors import OptionError

_Function = TypeVar("_Function", bound=Callable[..., Any])


def needs(**options: str | tuple[str, ...]) -> Callable[[_Function], _Function]:
    """Declare, above a command's function, which parameters have an effect only beside another.

    Parameters
    ----------
    options
        The parameter's name, and the one that it needs, or several of which one is enough.
    """

    def declare(function: _Function) -> _Function:
        function.__dict__["needs"] = {
            name: (others,) if isinstance(others, str) else others for name, others in options.items()
        }
        return function

    return declare


class StrictCommand(TyperCommand):
    """See the module; its function may be one that `needs` was put above."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Check what was given, then read it.

        Raises
        ------
        OptionError
            An option is empty, is given twice, or lacks the one that it needs.
        """
        parser, single = self.make_parser(ctx), []
        for param in self.get_params(ctx):
            if param.param_type_name == "option" and not getattr(param, "multiple", False):
                single.append(param)
                each = copy.copy(param)  # keeps every value, where the option itself keeps the last
                each.multiple = True
                each.add_to_parser(parser, ctx)
        given, _, _ = parser.parse_args(args=list(args))
        if not given.get("help"):
            for param in single:
                _check_once(param, given.get(param.name, ()))
            self._check(given)
        return super().parse_args(ctx, args)

    def _check(self, given: Mapping[str, Any]) -> None:
        names = {param.name: _shown(param) for param in self.params}
        for name, value in given.items():
            values = value if isinstance(value, list | tuple) else [value]
            if any(isinstance(each, str) and not each.strip() for each in values):
                raise OptionError(f"{names[name]} is empty: give a value, or leave it out")
        for name, others in getattr(self.callback, "needs", {}).items():
            if _is_given(given, name) and not any(_is_given(given, other) for other in others):
                wanted = " or ".join(names[other] for other in others)
                raise OptionError(f"{names[name]} has no effect without {wanted}: give that too, or leave it out")


def _check_once(param: Any, values: Sequence[Any]) -> None:
    """Raise OptionError where an option that takes one value has several."""
    if not isinstance(values, list | tuple) or len(values) < 2:
        return
    times = "twice" if len(values) == 2 else f"{len(values)} times"
    if param.is_flag:
        names = dict.fromkeys(param.opts[0] if value else param.secondary_opts[0] for value in values)
        if len(names) > 1:
            raise OptionError(f"{' and '.join(names)} exclude each other: give one of them")
        raise OptionError(f"{next(iter(names))} is given {times}: give it once")
    raise OptionError(f"{_shown(param)} is given {times} ({', '.join(map(str, values))}): give it once")


def _shown(param: Any) -> str:
    """Return what a parameter is called in the help: "--mask", or "BUNDLE" of an argument."""
    name: str = param.opts[0]
    return name if name.startswith("-") else (param.metavar or name.upper()).strip("[]")


def _is_given(given: Mapping[str, Any], name: str) -> bool:
    """Say whether a parameter is on the command line: the parser lists arguments that are not there, too."""
    return isinstance(given.get(name), str | bool | list | tuple)
