"""Sphinx' settings: Markdown pages and a theme that needs no network."""

from backfill_tasks import __version__

project = "backfill"
author = "the backfill authors"
copyright = f"2026, {author}"  # noqa: A001  Sphinx' own name
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
default_role = "code"
# Types of other packages have no page here; links between our pages are still checked.
nitpick_ignore_regex = [("py:.*", ".*")]
exclude_patterns = ["*.py"]
# Check links to headings like links to pages.
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"backfill {__version__}"
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}
