"""The DU follows the rank that UEs report: new blocks take it, retransmissions keep their size, reports say it."""

import numpy as np
import pytest
import torch

from distila.training.baselines import baseline
from distila.training.sim import conditions as conditions_module
from distila.training.sim.bank import NUM_NODES, FadingBank
from distila.training.sim.conditions import Banks, Conditions
from distila.training.sim.report import Decision, matrix
from distila.training.sim.scenario import Scenario
from distila.training.sim.simulator import Simulator
from distila.training.sim.split import Split

pytest.importorskip("sionna")

LINKS, RTT = 60, 4
MCS = 17


@pytest.fixture(autouse=True)
def two_layers_pay_in_turn(monkeypatch):
    """In every other 30 slots each of two layers is 15 dB weaker than one; the channel moves by a few dB besides."""
    drift = 300 * np.sin(np.arange(512) / 9)[None, None, :, None]
    gains = np.broadcast_to(drift, (1, 2, 512, NUM_NODES)).copy()
    gains[:, 1, np.arange(512) // 30 % 2 == 1] -= 1500

    def bank(config, rows, slots, split, seed, *_):
        blank = np.zeros(1, np.float32)
        return FadingBank(config, seed, gains.astype(np.int16), blank, blank, split)

    monkeypatch.setattr(conditions_module, "fading_bank", bank)


def conditions(ri_period=5, **settings):
    scenario = Scenario.model_validate(
        {
            "name": "made_up",
            "channels": [{"model": "UMi", "antennas": {"tx": 2, "rx": 2, "max_rank": 2}}],
            "snr_db": {"uniform": [8, 16]},
            "link": {"harq_rtt_slots": RTT},
            "cqi": {"ri_period_slots": ri_period, "delay_slots": 4},
            **settings,
        }
    )
    return Conditions(scenario, LINKS, Split.TEST, 0, 2000, banks=Banks(rows=1, slots=512))


def simulated(given, slots=400):
    """Reports and what was sent, slot by slot, under one MCS."""
    sent, reports = [], []
    simulator = Simulator(given, on_sent=sent.append)
    for _ in range(slots):
        reports.append(simulator.report)
        simulator.step(Decision.absolute(torch.full((LINKS,), MCS)))
    return reports, torch.cat([one.first for one in sent]), torch.cat([one.bits for one in sent])


def test_new_blocks_take_the_rank_of_the_report_and_retransmissions_keep_their_size():
    given = conditions()
    reports, first, bits = simulated(given)
    rank = torch.stack([torch.as_tensor(report.columns["ri"]) for report in reports])
    assert set(rank.unique().tolist()) == {1, 2}
    size = given.tables.tbs_bits.reshape(2, -1)[:, MCS]  # of one and two layers
    assert torch.equal(bits[first], size[rank[first].long() - 1])
    before, again = bits[:-RTT], ~first[RTT:]
    assert torch.equal(bits[RTT:][again], before[again])
    # Some blocks met another rank at their retransmission, and it did not change them.
    assert (rank[RTT:][again] != rank[:-RTT][again]).sum() > 20


def test_a_block_keeps_the_channel_of_its_own_layers():
    given = conditions()
    for slot in range(200):
        given.enter(slot)
        beta_db = torch.full((1, LINKS), 8.0)
        rows = [torch.full((1, LINKS), layers * given.tables.tbs_bits.numel() // 2 + MCS) for layers in (0, 1)]
        one, two = (given.effective_sinr_db(slot, beta_db, row)[0] for row in rows)
        gap = (one - two).round().abs()
        assert set(gap.tolist()) <= {0.0, 15.0}
        assert torch.equal(given.effective_sinr_db(slot, beta_db)[0], torch.where(given.layers == 1, one, two))


def test_a_genie_knows_the_error_rates_of_the_present_rank():
    given = conditions(snr_db=12)
    for slot in range(100):
        given.enter(slot)
        rates, bits = given.true_tbler(slot)
        assert torch.equal(bits[:, MCS], given.tables.tbs_bits.reshape(2, -1)[given.layers - 1, MCS])
        assert rates.shape == bits.shape


def test_the_rank_stands_in_reports_under_the_dus_own_link_adaptation_too():
    given = conditions()
    simulator = Simulator(given, native=baseline("olla"))
    ranks = torch.stack([matrix(simulator.step(), ["ri"])[:, 0] for _ in range(120)])
    assert set(ranks.unique().tolist()) == {1, 2}
    assert (ranks[1:] != ranks[:-1]).any(dim=0).all()


def test_a_report_does_not_change_after_it_was_handed_out():
    given = conditions()
    simulator = Simulator(given, native=baseline("olla"))
    report = simulator.step()
    before = torch.as_tensor(report.columns["ri"]).clone()
    for _ in range(200):
        simulator.step()
    assert torch.equal(torch.as_tensor(report.columns["ri"]), before)
