"""Whatever a user calls things, a page shows them as text."""

import re

from hypothesis import given
from hypothesis import strategies as st

from momkd.reporting.paper_table import escape_latex, escape_markdown


@given(st.text(max_size=30))
def test_no_text_reaches_latex_or_markdown_as_a_command(text: str) -> None:
    set_ = escape_latex(text)
    rest = re.sub(r"\\(text[a-z]+\{\}|[&%$#_{}])|\$\\pm\$|^\{\}", "", set_)
    assert not set(rest) & set("\\&%$#_{}~^|<>")
    assert "\n" not in set_
    shown = escape_markdown(text)
    assert not re.search(r"(?<!\\)[|`*_]", shown.replace("\\\\", ""))
    assert "<" not in shown
