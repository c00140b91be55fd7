"""Configuration of the documentation: `make docs` builds it into docs/_build/html."""

from importlib.metadata import version as version_of

project = "seresnext-triton"
author = "The seresnext-triton authors"
copyright = author  # noqa: A001  (Sphinx's name)
version = release = version_of("seresnext-triton")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]

# Links into sections: `page.md#heading`.
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
# Every name that a page refers to has to exist; types of other projects are not looked up.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!seresnext_).*")]

html_theme = "furo"
html_title = "seresnext-triton"
html_static_path: list[str] = []
copybutton_prompt_text = "$ "
copybutton_here_doc_delimiter = "EOT"
copybutton_line_continuation_character = "\\"
