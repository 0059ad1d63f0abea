"""One run: how long it is, what is counted, what it shares with others; and its file, which is never taken for another.

Common random numbers are what makes a comparison paired: whatever the policy and wherever it sits, links, channel and
luck of a scenario, split and seed are the same.
"""

import gc
import itertools
import json
from dataclasses import fields, replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from distila.training import baselines
from distila.training.baselines import BASELINES, GENIES
from distila.training.benchmark.episode import Episode, EpisodePlan, run_episode
from distila.training.benchmark.policies import PolicySpec, parse_policy
from distila.training.benchmark.sizes import Sizes
from distila.training.sim.scenario import Scenario
from distila.training.sim.sealed_npz import write_sealed
from distila.training.sim.split import Split
from distila.xapp.errors import InputError

pytest.importorskip("sionna")

OLLA_BUNDLE = Path(str(files("distila.xapp.policy"))) / "bundles" / "olla"
SIZES = Sizes(links=12, duration_ms=300, warmup_ms=50, bank_rows=4, bank_slots=256)
ALL_FIRST = {"link": {"max_transmissions": 1}}
"""Without retransmissions every slot of a full buffer has a first transmission."""
FILES = {"traffic": {"full_buffer_share": 0, "file_bytes": 20000, "files_per_s": 20}}
SOME_FILES = {"traffic": {"full_buffer_share": 0.5, "file_bytes": 20000, "files_per_s": 20}}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("banks")


@pytest.fixture(autouse=True)
def tuned(monkeypatch):
    untuned = {name: {"global": {}, "families": {}} for name in BASELINES if name not in GENIES}
    monkeypatch.setattr(baselines, "_tuned", lambda: untuned)
    return untuned


def a_scenario(**settings):
    return Scenario.model_validate({"name": "made_up", "channels": [{"model": "TDL-A"}], **settings})


def a_plan(policy="olla", cache=None, seed=0, split=Split.TEST, sizes=SIZES, **settings):
    return EpisodePlan(a_scenario(**settings), parse_policy(policy), split, seed, sizes, cache)


def run(policy, cache, **given):
    return run_episode(a_plan(policy, cache, **given))


def blocks(episode):
    return episode.first_ack + episode.first_nack + episode.first_dtx


def assert_same(one, other, *but):
    for field in fields(Episode):
        if field.name not in but:
            ours, theirs = getattr(one, field.name), getattr(other, field.name)
            assert np.array_equal(ours, theirs, equal_nan=True), field.name


@pytest.fixture(scope="module")
def an_episode():
    rng = np.random.default_rng(0)
    values = {field.name: rng.random(5) for field in fields(Episode)}
    scalars = {"slot_us": 500.0, "period_slots": 20, "delay_slots": 10, "bursty_share": 0.5, "elapsed_s": 1.5}
    scalars |= {"mcs_table": 1, "decided_share": 1.0, "slots": 1000, "stalled_slots": 40}
    return Episode(**values | {"file_delay_ms": np.empty(0)} | scalars)


# --- how long ---


@pytest.mark.parametrize(
    ("duration_ms", "warmup_ms", "slot_us", "period", "warmup", "slots"),
    [
        (4000, 250, 500, 1, 500, 8000),
        (4000, 250, 1000, 1, 250, 4000),
        (4000, 250, 125, 1, 2000, 32000),
        (4000, 250, 500, 200, 600, 8200),  # 2.5 periods of warm-up are three, 37.5 counted ones 38
        (300, 50, 500, 20, 100, 600),
        (300, 50, 500, 10_000, 10_000, 20_000),  # a period at least of either
        (51, 50, 500, 20, 100, 120),
        (300, 0, 500, 20, 20, 620),
    ],
)
def test_a_run_is_whole_periods_of_warm_up_and_whole_periods_that_count(
    duration_ms, warmup_ms, slot_us, period, warmup, slots
):
    sizes = Sizes(duration_ms=duration_ms, warmup_ms=warmup_ms)
    assert sizes.in_slots(slot_us, period) == (warmup, slots)


def test_no_run_is_shorter_than_asked_for_nor_longer_than_two_periods_more():
    for period, duration_ms, warmup_ms in itertools.product((1, 3, 7, 20, 64), (100, 333.3, 1500), (10, 33.3, 99)):
        warmup, slots = Sizes(duration_ms=duration_ms, warmup_ms=warmup_ms).in_slots(500, period)
        assert warmup % period == slots % period == 0
        assert 2 * warmup_ms <= warmup < 2 * warmup_ms + period + 1
        assert 2 * duration_ms <= slots < 2 * duration_ms + 2 * period + 1


@pytest.mark.parametrize("policy", ["olla", "srsran-olla@xapp"])
def test_events_in_the_warm_up_are_not_counted(cache, policy):
    assert (blocks(run(policy, cache, **ALL_FIRST)) == 500).all()


@pytest.mark.parametrize("period", [1, 7, 40, 300])
def test_every_policy_is_counted_over_the_same_slots(cache, period):
    e2 = {"period_slots": period, "delay_slots": 3}
    du, xapp = (run(policy, cache, e2=e2, **ALL_FIRST) for policy in ("illa", "illa@xapp"))
    warmup, slots = SIZES.in_slots(500, period)
    assert (blocks(du) == slots - warmup).all()
    assert (blocks(xapp) == slots - warmup).all()
    assert (du.resource == xapp.resource).all()
    for episode in (du, xapp):
        assert (episode.period_slots, episode.delay_slots, episode.slot_us) == (period, 3, 500)


def test_longer_slots_are_fewer_slots(tmp_path):
    slow = {"channels": [{"model": "TDL-A", "subcarrier_khz": 15}]}
    episode = run("illa", tmp_path, **slow, **ALL_FIRST)
    assert episode.slot_us == 1000
    assert (blocks(episode) == 250).all()


def test_a_scenario_may_draw_its_period(tmp_path):
    sizes = SIZES.model_copy(update={"duration_ms": 900, "warmup_ms": 15, "links": 8})
    drawn = set()
    for seed in range(6):
        e2 = {"period_slots": {"choice": [29, 30]}}
        drawn.add(run("illa", tmp_path, seed=seed, sizes=sizes, e2=e2).period_slots)
    assert drawn == {29, 30}


# --- what it holds ---


def test_goodput_is_bits_by_resource(cache):
    for settings in ({}, FILES):
        episode = run("olla", cache, **settings)
        sent = episode.resource > 0
        assert sent.any()
        assert np.allclose(episode.goodput[sent], episode.bits[sent] / episode.resource[sent])
        assert (episode.goodput[~sent] == 0).all()


def test_files_are_delayed_only_where_there_are_files(cache):
    full, some, bursty = (run("olla", cache, **settings) for settings in ({}, SOME_FILES, FILES))
    assert [e.bursty_share for e in (full, bursty)] == [0, 1]
    assert 0 < some.bursty_share < 1
    assert len(full.file_delay_ms) == 0
    assert 0 < len(some.file_delay_ms) < len(bursty.file_delay_ms)
    for episode in (some, bursty):
        assert (episode.file_delay_ms > 0).all()
        assert (episode.file_delay_ms <= 250).all(), "none waits longer than is counted"


def test_the_files_of_all_policies_are_the_same_ones(cache):
    counts = {len(run(policy, cache, **FILES).file_delay_ms) for policy in ("illa", "genie", "bler-window@xapp")}
    assert len(counts) == 1


def test_links_that_share_a_row_of_the_bank_share_their_speed(cache):
    episode = run("illa", cache, channels=[{"model": "TDL-A", "speed_kmh": {"uniform": [3, 100]}}])
    assert len(set(episode.fading_row)) == SIZES.bank_rows
    for row in set(episode.fading_row):
        assert len(set(episode.speed_kmh[episode.fading_row == row])) == 1


# --- common random numbers ---


@pytest.mark.parametrize("settings", [{}, SOME_FILES], ids=["full buffer", "files"])
def test_policies_meet_the_same_links(cache, settings):
    episodes = [run(policy, cache, **settings) for policy in ("olla", "genie", "bler-window@xapp", str(OLLA_BUNDLE))]
    for name in ("snr_db", "speed_kmh", "fading_row", "bursty_share"):
        assert all(np.array_equal(getattr(e, name), getattr(episodes[0], name)) for e in episodes), name
    assert len({e.bits.sum() for e in episodes}) > 1


def test_seeds_and_splits_have_other_links(cache):
    one = run("illa", cache)
    for other in (run("illa", cache, seed=1), run("illa", cache, split=Split.VALIDATION)):
        assert not np.isin(other.snr_db, one.snr_db).any()
        assert not np.isin(other.speed_kmh, one.speed_kmh).any(), "banks of their own"


@pytest.mark.parametrize("policy", ["thompson", "salad@xapp"])
def test_the_same_plan_gives_the_same_episode(cache, policy):
    short = SIZES.model_copy(update={"duration_ms": 100})
    assert_same(run(policy, cache, sizes=short), run(policy, cache, sizes=short), "elapsed_s")


# --- its file ---


def test_an_episode_comes_back_as_it_was(an_episode, tmp_path):
    path = tmp_path / "new" / "folder" / "it.npz"
    an_episode.save(path, "mine")
    found = Episode.load(path, "mine")
    assert_same(found, an_episode)
    assert [type(getattr(found, f.name)) for f in fields(Episode)] == [
        type(getattr(an_episode, f.name)) for f in fields(Episode)
    ]
    assert list(path.parent.iterdir()) == [path]


def test_a_real_episode_comes_back_as_it_was(cache, tmp_path):
    episode = run("olla@xapp", cache, **SOME_FILES)
    episode.save(tmp_path / "it.npz", "mine")
    assert_same(Episode.load(tmp_path / "it.npz", "mine"), episode)


def test_no_file_is_no_episode(tmp_path):
    assert Episode.load(tmp_path / "none.npz", "mine") is None


def test_the_result_of_something_else_is_no_episode(an_episode, tmp_path):
    path = tmp_path / "it.npz"
    an_episode.save(path, "theirs")
    assert Episode.load(path, "mine") is None
    with np.load(path) as data:
        arrays = dict(data)
    write_sealed(path, arrays | {"format": "distila-episode/0"})
    assert Episode.load(path, "theirs") is None


def test_an_unwritable_folder_is_reported(an_episode, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"file/it\.npz: cannot be written"):
        an_episode.save(tmp_path / "file" / "it.npz", "mine")


def outcome(path):
    """The episode, the line of a refusal, or the exception that would reach the user as a traceback."""
    try:
        return Episode.load(path, "mine")
    except InputError as error:
        return str(error)
    except Exception as error:
        return type(error)


def is_rejected(path, found):
    return isinstance(found, str) and found.startswith(f"{path}: ") and "delete it" in found and "\n" not in found


@pytest.fixture
def damaged(tmp_path):
    yield tmp_path / "it.npz"
    gc.collect()


# numpy leaves a file open in which it finds no archive.
leaks = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@leaks
def test_a_file_that_was_cut_short_is_damaged(an_episode, damaged):
    an_episode.save(damaged, "mine")
    whole = damaged.read_bytes()
    for length in range(0, len(whole), 97):
        damaged.write_bytes(whole[:length])
        assert is_rejected(damaged, outcome(damaged)), length


@leaks
def test_a_foreign_file_is_rejected(damaged):
    np.savez(damaged, gain=np.zeros(3))
    assert is_rejected(damaged, outcome(damaged))
    np.savez(damaged, format="distila-episode/1", fingerprint="mine", bits=np.zeros(3))
    assert is_rejected(damaged, outcome(damaged))
    damaged.write_text("no archive at all")
    assert is_rejected(damaged, outcome(damaged))


def test_a_foreign_npy_file_is_rejected(damaged):
    with damaged.open("wb") as file:
        np.save(file, np.zeros(3))
    assert is_rejected(damaged, outcome(damaged))


@leaks
def test_a_flipped_bit_is_found_or_does_no_harm(an_episode, damaged):
    an_episode.save(damaged, "mine")
    whole = damaged.read_bytes()
    directory = whole.index(b"PK\x01\x02")
    escaped = []
    for place in [*range(0, directory, 211), *range(directory, directory + 60)]:
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << bit
            damaged.write_bytes(flipped)
            found = outcome(damaged)
            if isinstance(found, Episode):
                assert_same(found, an_episode)
            elif not is_rejected(damaged, found):
                escaped.append((place, bit, found))
    assert escaped == []


@leaks
def test_an_array_that_became_shorter_is_damage(an_episode, damaged):
    names = {"bits", "goodput", "resource", "mean_mcs"}
    replace(an_episode, **{name: np.ones(1200) for name in names}).save(damaged, "mine")
    damaged.write_bytes(damaged.read_bytes().replace(b"(1200,)", b"(1000,)", 1))
    assert is_rejected(damaged, outcome(damaged))


# --- what a result depends on ---


def variations(tmp_path):
    """Plans that must not share results, one ingredient changed in each."""
    base = a_plan("srsran-olla@xapp")
    edited = tmp_path / "bundle"
    edited.mkdir()
    manifest = json.loads((OLLA_BUNDLE / "manifest.json").read_text())
    (edited / "policy.onnx").write_bytes((OLLA_BUNDLE / "policy.onnx").read_bytes())
    bundles = []
    for tables in ([1, 2, 3], [1]):
        (edited / "manifest.json").write_text(json.dumps(manifest | {"mcs_tables": tables}))
        bundles.append(replace(base, policy=parse_policy(str(edited))))
    return [
        base,
        *bundles,
        *(replace(base, policy=parse_policy(f"srsran-olla{rest}")) for rest in ("", ":default", ":default@xapp")),
        replace(base, policy=parse_policy("bler-window@xapp")),
        *(replace(base, policy=PolicySpec.trial("srsran-olla", {"target": target})) for target in (0.1, 0.2)),
        replace(base, scenario=a_scenario(name="another")),
        replace(base, scenario=a_scenario(snr_db=10)),
        replace(base, scenario=a_scenario(e2={"period_slots": 2})),
        replace(base, scenario=a_scenario(channels=[{"model": "TDL-C"}])),
        replace(base, split=Split.VALIDATION),
        replace(base, seed=1),
        replace(base, device="cuda"),
        *(
            replace(base, sizes=SIZES.model_copy(update={name: getattr(SIZES, name) + 1}))
            for name in Sizes.model_fields
        ),
    ]


def test_every_ingredient_is_part_of_what_a_result_is_of(tmp_path):
    described = [plan.describe("code") for plan in variations(tmp_path)]
    assert len(set(described)) == len(described)


def test_so_is_the_code():
    assert a_plan().describe("this") != a_plan().describe("that")


def test_the_same_plan_made_twice_is_the_same():
    assert a_plan("olla@xapp", **SOME_FILES).describe("code") == a_plan("olla@xapp", **SOME_FILES).describe("code")


def test_where_banks_are_kept_changes_nothing(tmp_path):
    assert a_plan().describe("code") == a_plan(cache=tmp_path).describe("code")


def test_settings_that_are_tuned_anew_are_other_settings(tuned):
    def described():
        return [
            a_plan(policy).describe("code") for policy in ("salad", "salad:default", "salad@xapp", str(OLLA_BUNDLE))
        ]

    before = described()
    tuned["salad"] = {"global": {"target": 0.2}, "families": {}}
    assert [a != b for a, b in zip(before, described(), strict=True)] == [True, False, True, False]
    before = described()
    tuned["olla"] = {"global": {"target": 0.2}, "families": {}}  # what an xApp overrides
    assert [a != b for a, b in zip(before, described(), strict=True)] == [False, False, True, True]


def test_tuning_does_not_need_what_was_tuned(monkeypatch):
    monkeypatch.setattr(baselines, "_tuned", lambda: {})
    trial = replace(a_plan(), policy=PolicySpec.trial("olla", {"target": 0.1}))
    assert trial.describe("code") != a_plan("illa:default").describe("code")
