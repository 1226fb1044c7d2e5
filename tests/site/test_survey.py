"""What a reader would stumble on is found before it is published; a sound site passes."""

import pytest
import survey

SOUND = """<html lang="en"><head><link rel="stylesheet" href="_static/a.css"></head><body>
<h1 id="top">A page</h1> <a href="other.html#place">there</a> <a href="#top">up</a> <a href="https://example.org">away</a>
<img src="_static/a.png" alt="A curve that falls from 2 to 0.1"> <svg role="img" aria-label="A block"></svg>
<svg aria-hidden="true"></svg></body></html>"""


@pytest.fixture
def site(tmp_path):
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "a.css").write_text("")
    (tmp_path / "_static" / "a.png").write_bytes(b"")
    (tmp_path / "other.html").write_text('<p id="place">')
    (tmp_path / "index.html").write_text(SOUND)
    return tmp_path


def test_a_sound_site_has_no_faults(site):
    assert survey.faults(site) == []


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        (' alt="A curve that falls from 2 to 0.1"', "", "no alt text"),
        (' alt="A curve that falls from 2 to 0.1"', ' alt=" "', "no alt text"),
        (' role="img" aria-label="A block"', "", "no role and label"),
        ("_static/a.css", "https://cdn.example.org/a.css", "from another host"),
        ("_static/a.css", "//cdn.example.org/a.css", "from another host"),
        ("_static/a.css", "_static/b.css", "not there"),
        ("other.html#place", "another.html", "not there"),
        ("other.html#place", "../index.html", "not there"),
        ("other.html#place", "other.html#elsewhere", "no such place"),
        ('href="#top"', 'href="#bottom"', "no such place"),
        ('<a href="#top">', '<a id="top" href="#top">', "given twice"),
    ],
)
def test_each_fault_is_found_and_named(site, right, wrong, told):
    assert right in SOUND
    (site.parent / "index.html").write_text("outside")
    (site / "index.html").write_text(SOUND.replace(right, wrong))
    (fault,) = survey.faults(site)
    assert fault.startswith("index.html: ")
    assert told in fault
