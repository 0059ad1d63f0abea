"""The ablation study: its variants, its figures, its page and chart."""

import pytest

from distila.training.ablation.page import by_question, text, write_chart, write_page
from distila.training.ablation.study import AblationResults, StudyConfig, VariantResult, load_study
from distila.training.ablation.variants import REFERENCE, TEACHER, VARIANTS
from distila.training.benchmark.sizes import Sizes
from distila.training.distill.distill import DistillConfig
from distila.training.learning.interval import SeedInterval, interval
from distila.training.teachers.privileged import PrivilegedConfig
from distila.xapp.errors import InputError

pytest.importorskip("sionna")


@pytest.mark.parametrize("name", ["full", "quick"])
def test_studies_that_ship_load(name):
    study = load_study(name)
    assert study.seeds >= (5 if name == "full" else 2)
    assert set(study.scenarios).isdisjoint(study.unseen)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("scenarios: [embb]\nseeds: 1\n", "seeds"),
        ("scenarios: []\n", "scenarios"),
        ("scenarios: [embb]\nvariants: [student, magic]\n", "variants: no variant 'magic'; there are student, teacher"),
        ("scenarios: [embb]\nwidth: 3\n", "width"),
    ],
)
def test_a_wrong_study_is_one_line(tmp_path, content, says):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        load_study(str(path))
    assert str(caught.value).startswith(str(path))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_flat_keys_of_older_studies_are_read():
    old = {"benchmark_links": 16, "benchmark_duration_ms": 300, "benchmark_seeds": 2, "bank_slots": 512}
    new = {"links": 16, "duration_ms": 300, "seeds": 2, "bank_slots": 512}
    studies = [StudyConfig.model_validate({"scenarios": ["embb"], **keys}) for keys in (old, {"benchmark": new})]
    assert studies[0] == studies[1]
    assert studies[0].benchmark.of_a_run == Sizes(links=16, duration_ms=300, bank_rows=48, bank_slots=512)


def test_the_reference_comes_first_and_names_are_used_once():
    assert VARIANTS[0].name == REFERENCE
    assert len({variant.name for variant in VARIANTS}) == len(VARIANTS)
    assert [variant.name for variant in VARIANTS if variant.kind == "teacher"] == [TEACHER]


@pytest.mark.parametrize(
    "variant", [v for v in VARIANTS if v.kind in ("distilled", "privileged")], ids=lambda v: v.name
)
def test_variants_change_existing_settings_only(variant):
    change = dict(variant.change)
    network = {"hidden": [32, 32], **change.pop("network", {})}
    if variant.kind == "distilled":
        config = DistillConfig.model_validate({"scenarios": ["embb"], "network": network, **change})
        plain = DistillConfig.model_validate({"scenarios": ["embb"], "network": {"hidden": [32, 32]}})
    else:
        network |= {"head": "value"}
        config = PrivilegedConfig.model_validate({"scenarios": ["embb"], "network": network, **change})
        plain = PrivilegedConfig.model_validate({"scenarios": ["embb"], "network": network})
    alike = variant.name in (REFERENCE, "direct-privileged") or variant.specialists
    assert (config == plain) is alike


def test_an_interval_is_students_t_over_seeds():
    found = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.mean == 3.0
    # t(0.975, 4) = 2.776, standard error sqrt(2.5 / 5)
    assert found.ci95 == pytest.approx([3 - 1.963, 3 + 1.963], abs=1e-3)
    assert interval([2.5]) == SeedInterval(mean=2.5, ci95=None, values=(2.5,))


@pytest.mark.parametrize(
    ("figures", "shown"),
    [(None, "-"), (interval([2.54]), "+2.5"), (interval([-1.0, 1.0]), "+0.0 (-12.7 to +12.7)")],
)
def test_figures_in_words(figures, shown):
    assert text(figures) == shown


def test_page_and_chart_show_every_variant_under_its_question(tmp_path):
    variants = [
        VariantResult(
            name=variant.name,
            question=variant.question,
            what=variant.what,
            seen=interval([float(place)] if variant.kind == "teacher" else [place - 1.0, place + 1.0]),
            unseen=None,
            against_student=None,
        )
        for place, variant in enumerate(VARIANTS)
    ]
    results = AblationResults(study=StudyConfig(scenarios=("embb",)), variants=variants)
    write_page(tmp_path / "page.md", results)
    page = (tmp_path / "page.md").read_text()
    for question, group in by_question(variants):
        section = page[page.index(f"### {question}") :].split("\n\n### ")[0]
        for variant in group:
            assert f"| `{variant.name}` | {variant.what} | {text(variant.seen)} | - | - |" in section
    write_chart(tmp_path / "chart.png", results)
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
