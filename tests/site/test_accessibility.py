"""What the tools leave is mended, and nothing else is touched."""

import accessibility


def test_a_folded_cell_is_called_what_it_says():
    made = accessibility.mended('<summary aria-label="Toggle hidden content">\n<p>Show the code</p>\n</summary>')
    assert made == "<summary>\n<p>Show the code</p>\n</summary>"


def test_a_long_signature_is_no_list_of_definitions():
    made = accessibility.mended("<span>(</span><dl>\n<dd><em>x</em>,</dd>\n<dd><em>y</em></dd>\n</dl>\n<span>)</span>")
    assert made == (
        '<span>(</span><span class="parameter"><em>x</em>,</span>\n<span class="parameter"><em>y</em></span>\n'
        "\n<span>)</span>"
    )


def test_an_empty_cell_at_the_head_of_a_table_is_no_header():
    made = accessibility.mended('<tr><th class="head"><p></p></th><th class="head"><p>x</p></th></tr>')
    assert made == '<tr><td class="head"></td><th class="head"><p>x</p></th></tr>'


def test_a_list_of_definitions_stays_one():
    body = "<dl>\n<dt>x</dt>\n<dd>the input</dd>\n</dl>"
    body += "<dl class='py'><dt>f</dt><dd><dl><dt>a</dt><dd>b</dd></dl></dd></dl>"
    assert accessibility.mended(body) == body


def test_a_list_of_definitions_after_a_long_signature_stays_one():
    after = "<dl><dt>a</dt><dd>b</dd></dl>"
    assert accessibility.mended(f"<dl><dd>x</dd></dl>{after}") == f'<span class="parameter">x</span>{after}'
