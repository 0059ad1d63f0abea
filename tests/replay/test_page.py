"""The report kit: numbers in words, verdicts that claim no more than the interval, tables, colours, and one page."""

import itertools
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser

import jinja2
import numpy as np
import pytest

from distila.replay.page import number_text, palette
from distila.replay.page.chart import Chart, new_figure, pair_up
from distila.replay.page.document import Page, write_page
from distila.replay.page.number_text import DASH, MINUS, NOT_DEFINED
from distila.replay.page.table import Cell, Column, Group, Table, difference_cell, settings_table
from distila.replay.page.verdict import Difference, VerdictLine

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MARKUP = '<script>alert("x")</script><b>&'


# Numbers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (number_text.number(12345.678, 1), "12,345.7"),
        (number_text.number(-3), f"{MINUS}3"),
        (number_text.signed(0.04, 1), "0.0"),
        (number_text.signed(-0.04, 1), "0.0"),
        (number_text.signed(1234.5, 1, "%"), "+1,234.5 %"),
        (number_text.percent(0.33101, 1), "33.1 %"),
        (number_text.points(-0.012), f"{MINUS}1.20 points"),
        (number_text.microseconds(169.9), "170 µs"),
        (number_text.significant(0.5), "0.5"),
        (number_text.counted(1, "family", "families"), "1 family"),
        (number_text.counted(1300, "UE"), "1,300 UEs"),
    ],
)
def test_a_number_is_shown_with_sign_separators_and_unit(text, expected):
    assert text == expected


@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_a_missing_number_is_called_not_defined(missing):
    shown = [
        number_text.number(missing, 2, "%"),
        number_text.signed(missing, 2),
        number_text.percent(missing),
        number_text.points(missing),
        number_text.microseconds(missing),
        number_text.significant(missing),
        number_text.interval(missing, 1.0, 1),
    ]
    assert set(shown) == {NOT_DEFINED}


def test_an_interval_that_stays_clear_of_zero_does_not_seem_to_touch_it():
    assert number_text.interval(0.01, 0.06, 1, "%") == "+0.01 to +0.06 %"
    assert number_text.interval(-0.01, 0.06, 1, "%") == "0.0 to +0.1 %"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, DASH),
        (True, "yes"),
        (-0.5, f"{MINUS}0.5"),
        ([1, 2], "1, 2"),
        ((), DASH),
        ({"a": None, "b": False}, f"a: {DASH}, b: no"),
        ("olla", "olla"),
    ],
)
def test_a_setting_is_never_shown_as_a_python_literal(value, expected):
    assert number_text.setting(value) == expected


# Differences


@pytest.mark.parametrize(
    ("difference", "kind"),
    [
        (Difference(1.0, 0.5, 1.5), "better"),
        (Difference(-1.0, -1.5, -0.5), "worse"),
        (Difference(1.0, 0.5, 1.5, less_is_better=True), "worse"),
        (Difference(-1.0, -1.5, -0.5, less_is_better=True), "better"),
        (Difference(1.0, 0.0, 1.5), "no-difference"),
        (Difference(0.0, 0.0, 0.0), "no-difference"),
        (Difference.of(1.0, None), "nothing-decided"),
        (Difference.of(1.0, (None, None)), "nothing-decided"),
        (Difference.of(None, (0.5, 1.0)), "nothing-decided"),
    ],
)
def test_a_difference_is_decided_only_where_the_whole_interval_is_on_one_side(difference, kind):
    assert difference.kind == kind


# Tables


def test_a_table_is_written_as_markdown_too():
    table = Table(
        [Column("policy", text=True), Column("gain", "%")],
        [
            ["a|b", difference_cell(Difference(1.25, 0.5, 2.0))],
            Group("seen"),
            [Cell("student", code=True), number_text.signed(math.nan, 1)],
        ],
    )
    assert table.markdown().splitlines() == [
        "| policy | gain [%] |",
        "| --- | ---: |",
        "| a\\|b | ▲ +1.2 % (+0.5 to +2.0) |",
        "| **seen** |  |",
        "| `student` | not defined |",
    ]


def test_a_row_with_another_number_of_cells_is_an_error():
    with pytest.raises(ValueError, match="gains: 1 cells for 2 columns"):
        Table(["a", "b"], [["1"]], label="gains")


# Colours

# Machado, Oliveira and Fernandes, IEEE TVCG 2009, severity 1.0; they work on linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def linear_rgb(colour):
    part = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def lab(colour, vision):
    xyz = TO_XYZ @ np.clip(VISIONS[vision] @ linear_rgb(colour), 0, 1) / np.array([0.95047, 1, 1.08883])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(colour, paper):
    darker, lighter = sorted(linear_rgb(one) @ np.array([0.2126, 0.7152, 0.0722]) for one in (colour, paper))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("vision", VISIONS)
def test_any_two_colours_of_a_report_can_be_distinguished(vision):
    colours = [*palette.SERIES, palette.AGAINST_COLOUR, palette.GREY]
    for one, other in itertools.combinations(colours, 2):
        # A difference of 2.3 is just noticeable side by side; lines are thin and lie apart.
        assert np.linalg.norm(lab(one, vision) - lab(other, vision)) > 12, (one, other)


@pytest.mark.parametrize("paper", ["#ffffff", "#14171b"])
def test_colours_stand_out_in_light_and_in_dark_mode(paper):
    for colour in (*palette.SERIES, palette.AGAINST_COLOUR, palette.GREY, palette.LIMIT_COLOUR):
        assert contrast(colour, paper) > 2.5, colour


def test_series_differ_by_marker_or_dash_too():
    looks = [palette.series_look(index) for index in range(len(palette.SERIES))]
    assert len({(look.symbol, look.dash) for look in looks}) == len(palette.SYMBOLS)
    assert all(look.matplotlib_marker for look in looks)


# The page


class Shown(HTMLParser):
    """Text and tags of a page as a browser would take them."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.parts, self._in = [], [], None
        self.feed(path.read_text("utf-8"))
        self.text = " ".join(" ".join(self.parts).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in = tag if tag in ("script", "style") else None

    def handle_endtag(self, tag):
        self._in = None

    def handle_data(self, data):
        if self._in is None:
            self.parts.append(data)


def a_page(name="student", charts=()):
    line = VerdictLine("better", f"{name} gains 5.6 % goodput over native OLLA.", "95 % interval +4.0 to +7.4 %")
    headline = Table(
        ["", Column(name, colour=palette.POLICY_COLOUR)],
        [["goodput", Cell("46.39", unit="Mbit/s", note=name, badge=name, title=name)], Group(name)],
        footer=[["mean", difference_cell(Difference(1.0, 0.5, 1.5))]],
        style="grid",
    )
    return Page("replay", name, name, [line, line], [f"caveat of {name}"], headline, charts)


def a_chart(key="gain", **settings):
    figure = new_figure("x", "y")
    figure.add_scatter(x=[1, 2], y=[1, 2])
    return Chart(key, "Gain", "What it shows.", figure, **settings)


def test_the_page_shows_verdict_caveats_figures_and_charts(tmp_path):
    write_page(tmp_path / "a.html", a_page(charts=[a_chart()]))
    page = Shown(tmp_path / "a.html")
    assert "▲ better student gains 5.6 % goodput over native OLLA. 95 % interval +4.0 to +7.4 %" in page.text
    assert "caveat of student" in page.text
    assert "46.39 Mbit/s" in page.text
    assert "▲ +1.0 % +0.5 to +1.5" in page.text
    assert ("div", "chart-gain") in [(tag, attrs.get("id")) for tag, attrs in page.tags]
    assert sum(tag == "h1" for tag, _ in page.tags) == 1


def test_the_page_loads_nothing_and_holds_plotly_once(tmp_path):
    write_page(tmp_path / "a.html", a_page(charts=[a_chart("a"), a_chart("b")]))
    page = Shown(tmp_path / "a.html")
    assert not [attrs for _, attrs in page.tags if attrs.get("src")]
    assert (tmp_path / "a.html").read_text().count("plotly.js v") == 1
    policy = next(attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv"))
    assert policy.startswith("default-src 'none';")


def test_text_stays_text(tmp_path):
    write_page(tmp_path / "odd.html", a_page(MARKUP))
    write_page(tmp_path / "even.html", a_page("plain"))
    odd, even = Shown(tmp_path / "odd.html"), Shown(tmp_path / "even.html")
    assert [tag for tag, _ in odd.tags] == [tag for tag, _ in even.tags]
    assert odd.text.count(MARKUP) >= 6


def test_a_template_fills_blocks_and_may_not_use_what_nobody_gave(tmp_path):
    template = (
        '{% extends "base" %}{% from "parts" import table %}'
        "{% block sections %}<h2>{{ heading }}</h2>{{ table(settings) }}{% endblock %}"
    )
    values = {"heading": "Settings", "settings": settings_table([("seed", "1"), ("slots", Cell("all", code=True))])}
    write_page(tmp_path / "a.html", a_page(), template, values)
    assert "Settings seed 1 slots all" in Shown(tmp_path / "a.html").text
    with pytest.raises(jinja2.UndefinedError, match="settings"):
        write_page(tmp_path / "b.html", a_page(), template, {"heading": "Settings"})
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]


def test_a_half_chart_without_a_neighbour_becomes_wide():
    assert [c.wide for c in pair_up([a_chart(wide=False), a_chart(), a_chart(wide=False), a_chart(wide=False)])] == [
        False,
        True,
        False,
        True,
    ]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page in")
def test_a_browser_draws_the_charts_without_complaint(tmp_path):
    path = tmp_path / "a.html"
    write_page(path, a_page(MARKUP, [a_chart("a", wide=False), a_chart("b", wide=False, choices=["ue0", "ue1"])]))
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000", "--enable-logging=stderr", "--v=0",
        "--dump-dom", path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert len(re.findall(r'<div class="chart[^>]*data-drawn="yes"', done.stdout)) == 2
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
