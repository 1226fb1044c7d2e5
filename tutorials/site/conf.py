"""What Sphinx is told. `build.py` assembles the pages, runs it, and looks over what came out."""

from pathlib import Path

from equations import citations, equations
from sources import linkcode_resolve as linkcode_resolve  # sphinx.ext.linkcode looks for it here

from minires import __version__

HERE = Path(__file__).resolve().parent

project = "minires"
author = "the minires authors"
project_copyright = "the minires authors, MIT license"
version = release = __version__
language = "en"
smartquotes = False  # docstrings and tutorials speak of code
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.linkcode",
    "accessibility",
    "docstrings",
    "equations",
    "katex",
    "sources",
]
exclude_patterns = ["tutorials/_kit.py", "**/__pycache__"]
minires_equations = equations(HERE.parent)
minires_citations = citations(HERE.parents[1] / "minires")

# the tutorials: Python files whose cells are marked by "# %%", run from top to bottom at every build
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist", "attrs_inline", "attrs_block"]
myst_heading_anchors = 3
myst_update_mathjax = False
html_math_renderer = "katex"

# the API
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False  # else every layer would tell again what Module tells of forward
maximum_signature_line_length = 100
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

# the looks: nothing comes from another host
html_theme = "pydata_sphinx_theme"
html_title = "minires"
html_static_path = ["_static"]
templates_path = ["_templates"]
html_favicon = "_static/favicon.svg"
html_css_files = ["site.css"]
html_js_files = ["mode.js"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "minires"},
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "navbar_persistent": ["search-field-button"],
    "header_links_before_dropdown": 6,
    "search_bar_text": "Search the pages",
    "show_toc_level": 2,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "primary_sidebar_end": [],
    "secondary_sidebar_items": ["downloads", "page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["built-from"],
}
html_sidebars = {"index": [], "install": [], "pytorch-users": [], "add-an-op": [], "teachers": [], "changelog": []}
