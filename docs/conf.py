"""How Sphinx makes the site under build/docs of the pages in this folder (`make docs`)."""

import re
from importlib.metadata import version as _version_of
from typing import Any

__all__: list[str] = []

project = "dpft"
author = "the dpft authors"
version = release = _version_of("dpft")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"dpft {version}"
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

# Links to headings of other pages are written as GitHub names them.
myst_heading_anchors = 3

# Docstrings: Google's order and one section more, names in single backticks, types with the
# arguments, since signatures that hold them do not fit a narrow window.
default_role = "code"
napoleon_custom_sections = ["Privacy"]
napoleon_use_rtype = False
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True

# A name that leads nowhere is an error, but for two kinds of types in signatures: those of other
# libraries, whose inventories would have to be fetched, and ours from modules without a page.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!dpft\.).*"),
    ("py:.*", r"dpft\.(?!errors\.)\w+\.[\w.]+"),
]

_MARKUP = re.compile(r"(`+[^`]*`+)|[*|]")


def _as_prose(*event: Any) -> None:
    """Take the signs of products, shapes and norms literally; backticks alone are markup here."""
    lines: list[str] = event[-1]
    for number, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            lines[number] = _MARKUP.sub(lambda found: found[1] or f"\\{found[0]}", line)


def setup(app: Any) -> None:
    """Connect what the settings above cannot say."""
    app.connect("autodoc-process-docstring", _as_prose, priority=400)  # before napoleon
