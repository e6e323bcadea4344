"""What the HTML pages have in common: templates in which every text is escaped, and one style, `page.css`.

A page is one file that loads nothing and runs nothing. Names and texts come from bundles and reports, so they are only
ever text in it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seggd_rt.optional import require
from seggd_rt.wording import printable

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True)
class Picture:
    """A picture of a part of a page: PNG, and what it shows."""

    part: str
    alt: str
    png: bytes

    @property
    def base64(self) -> str:
        """The PNG as text."""
        return base64.b64encode(self.png).decode("ascii")


def _printable(value: object) -> object:
    """Escape invisible and text-direction characters in untrusted strings; keep the templates' own markup."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return "\n".join(map(printable, value.split("\n")))


def environment(package: str, *, extra: str, feature: str) -> Environment:
    """Return what renders a package's templates, which may include `page.css`.

    Raises
    ------
    MissingExtraError
        Jinja is not installed.
    """
    jinja2 = require("jinja2", extra=extra, feature=feature)
    loaders = [jinja2.PackageLoader(name, ".") for name in (package, "seggd_rt.reports")]
    made: Environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return made
