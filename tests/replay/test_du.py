"""The DU stand-in, slot by slot: HARQ, its feedback, the native OLLA, decisions, CQI and reports.

Most tests use a link where MCS m needs exactly m dB, so that every outcome is known beforehand.
"""

from collections import Counter

import numpy as np
import pytest

from distila.replay.du import Du
from distila.replay.du_config import DuConfig
from distila.replay.harq import IDLE, SENT_ACK, SENT_NACK
from distila.replay.trace import NO_CQI, ChannelTrace, TraceMeta, UeMeta
from distila.xapp.e2.codec import Identity, decode_indication, decode_indication_header, encode_indication
from distila.xapp.errors import InputError
from distila.xapp.kpi.observations import MEASURED
from distila.xapp.kpi.report import ACK, DTX, MCS, MCS_OFFSET, NACK, NATIVE, NO_UE_ID, RESIDUAL, Decisions
from distila.xapp.nr.bler import SmoothBler
from distila.xapp.nr.cqi import mcs_for_cqi
from distila.xapp.policy.columns import Layout
from distila.xapp.policy.olla import CqiOlla

NATIVE_MCS = int(mcs_for_cqi(1, 1)[7])  # where a UE starts that has never reported a CQI
RTT = 8


class MDbForMcsM:
    """A code block at MCS m arrives from m dB on, and never below."""

    def bler(self, mcs_table, mcs, code_block_size_bits, sinr_db):
        mcs, _, sinr_db = np.broadcast_arrays(mcs, code_block_size_bits, sinr_db)
        return np.where(sinr_db >= mcs, 0.0, 1.0)


def a_trace(num_ues=1, mcs_table=1, slots=10, prbs=None, layers=2):
    """``mcs_table``: of all UEs, or of each; ``prbs`` of all UEs, or 20, 21 and so on."""
    tables = np.broadcast_to(mcs_table, num_ues).tolist()
    ues = [UeMeta(name=f"ue{u}", prbs=prbs or 20 + u, layers=layers, mcs_table=table) for u, table in enumerate(tables)]
    count = num_ues * slots
    return ChannelTrace(
        meta=TraceMeta(name="made up", slot_us=500, source="the test", ues=ues),
        offset=np.arange(num_ues + 1) * slots,
        slots=np.ones(count, np.int32),
        sinr_db=np.zeros(count, np.float32),
        cqi=np.zeros(count, np.int8),
    )


class Cell:
    """A DU driven slot by slot; keeps every result and report."""

    def __init__(self, num_ues=1, bler=None, mcs_table=1, seed=1, prbs=None, layers=2, **config):
        self.num_ues = num_ues
        trace = a_trace(num_ues, mcs_table, prbs=prbs, layers=layers)
        self.du = Du(trace, bler or MDbForMcsM(), DuConfig(**config), seed)
        self.slot, self.results, self.reports = 0, [], []

    def run(self, sinr_db, cqi=NO_CQI, slots=1, decide=None):
        """Run some slots; ``decide`` gives the decisions that arrive in the first of them, from its report."""
        outcome = None
        sinr = np.broadcast_to(np.asarray(sinr_db, np.float32), self.num_ues)
        cqi = np.broadcast_to(np.asarray(cqi, np.int8), self.num_ues)
        for _ in range(slots):
            self.du.receive_feedback(self.slot, sinr, cqi)
            if self.du.report_due(self.slot):
                self.reports.append(self.du.report(self.slot))
            if decide is not None:
                outcome = self.du.receive(decide(self.reports[-1]), self.slot)
                decide = None
            self.du.apply_decisions(self.slot)
            self.results.append(self.du.transmit(self.slot, sinr))
            self.slot += 1
        return outcome

    def of(self, name, ue=0):
        return [int(getattr(result, name)[ue]) for result in self.results]


def decisions(report, kind, value, **changes):
    count = report.num_ues
    fields = {
        "cell_id": report.cell_id, "answers_sequence": report.sequence, "sfn": 0, "slot": 0, "timestamp_us": 0,
        "valid_for_slots": 1000, "rnti": report.rnti, "ue_id": np.full(count, NO_UE_ID),
        "kind": np.broadcast_to(kind, count), "value": np.broadcast_to(value, count),
    }  # fmt: skip
    return Decisions(**fields | changes)


def use(mcs, **changes):
    return lambda report: decisions(report, MCS, mcs, **changes)


@pytest.mark.parametrize("mcs", [0, 5, 12, 28])
def test_a_block_arrives_where_the_channel_carries_it(mcs):
    cell = Cell()
    cell.run(mcs + 0.2, decide=use(mcs))
    cell.run(mcs - 0.2)
    assert cell.of("outcome") == [SENT_ACK, SENT_NACK]
    assert cell.of("mcs") == [mcs, mcs]
    assert cell.of("attempt") == [1, 1]


@pytest.mark.parametrize("rtt", [1, 4, 8])
@pytest.mark.parametrize(("sinr_db", "column"), [(20, ACK), (-20, NACK)])
def test_feedback_arrives_a_round_trip_later(rtt, sinr_db, column):
    cell = Cell(harq_rtt_slots=rtt, max_transmissions=1)
    cell.run(sinr_db)
    cell.run(np.nan, slots=rtt - 1)
    cell.run(-20)
    *early, late = cell.reports
    assert all(len(report.harq_ue) == 0 for report in early)
    assert late.harq_mcs.tolist() == [NATIVE_MCS]
    assert late.harq_counts[0, [ACK, NACK, DTX]].tolist() == [column == ACK, column == NACK, 0]
    assert late.total_first_tx.tolist() == [1]


def test_a_lost_block_is_sent_again_at_its_mcs_in_its_process():
    cell = Cell()
    cell.run(8, decide=use(10))  # lost, by 2 dB
    cell.run(8, decide=use(3))
    cell.run(8, slots=2 * RTT)
    assert cell.of("mcs") == [10] + [3] * 7 + [10] + [3] * 9
    assert cell.of("attempt") == [1] * 8 + [2] + [1] * 9
    assert cell.of("outcome") == [SENT_NACK] + [SENT_ACK] * 17


def gain_db(count, mcs_table, mcs, prbs=2, layers=1, **config):
    """How much less SINR a block needs that is sent ``count`` times at one SINR than one that is sent once [dB]."""
    less_db = np.arange(-0.2, 25, 0.05)
    config = {"harq_rtt_slots": 1, "max_transmissions": 8, **config}
    cell = Cell(len(less_db), mcs_table=mcs_table, prbs=prbs, layers=layers, **config)
    cell.run(mcs - less_db, decide=use(mcs))
    cell.run(mcs - less_db, slots=count - 1)
    decoded = np.any([(result.outcome == SENT_ACK) & (result.attempt <= count) for result in cell.results], axis=0)
    assert decoded[0]
    assert not decoded[-1]
    return less_db[np.flatnonzero(decoded)[-1]]


# Gains of two and four transmissions, redundancy versions 0, 2, 3, 1, at 10 % block errors: measured with a real LDPC
# codec (base graph 1, whole buffer, within 0.2 dB), and of the ideal rule. PRBs are such that it is base graph 1.
MEASURED_GAINS = [
    (1, 13, 14, 4.0, 7.1, 5.2, 9.2), (1, 16, 11, 5.0, 8.4, 6.0, 10.3), (1, 20, 8, 5.7, 9.4, 7.0, 11.8),
    (1, 24, 2, 7.0, 11.6, 8.6, 14.0), (1, 28, 2, 8.9, 14.1, 10.2, 16.3), (2, 27, 2, 10.3, 17.1, 12.8, 20.0),
]  # fmt: skip


@pytest.mark.parametrize(("mcs_table", "mcs", "prbs", "two", "four", "ideal_two", "ideal_four"), MEASURED_GAINS)
def test_retransmissions_gain_what_an_ldpc_decoder_gains(mcs_table, mcs, prbs, two, four, ideal_two, ideal_four):
    of_two, of_four = (gain_db(count, mcs_table, mcs, prbs, carrier_prbs=273, carrier_layers=4) for count in (2, 4))
    assert of_two == pytest.approx(two, abs=0.7)
    assert of_four == pytest.approx(four, abs=0.7)
    assert of_two < ideal_two - 0.4
    assert of_four < ideal_four - 0.8


def test_a_block_as_large_as_the_carrier_s_largest_gains_less():
    """Limited buffer rate matching: the second transmission repeats bits of the first."""
    assert gain_db(2, 1, 28, prbs=32) < gain_db(2, 1, 28, prbs=32, carrier_prbs=273) - 0.5


def test_the_carrier_is_as_wide_as_the_widest_allocation_unless_it_is_told():
    assert gain_db(2, 1, 28, prbs=20) == gain_db(2, 1, 28, prbs=20, carrier_prbs=20)
    assert gain_db(2, 1, 28, prbs=20, layers=2) == gain_db(2, 1, 28, prbs=20, layers=2, carrier_layers=2)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_chase_combining_adds_up_the_power_of_all_transmissions_less_what_a_decoder_loses(count):
    """Two of them: 3 dB, less up to 0.5 dB."""
    gain = gain_db(count, 1, 28, combining="chase")
    assert 10 * np.log10(count) - 0.5 * (count - 1) - 0.11 <= gain <= 10 * np.log10(count) + 0.11


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_ideal_rule_adds_up_capacities(count):
    """n transmissions at one SINR g decode what needs (1 + g)^n - 1."""
    needed = 10 * np.log10((1 + 10**1.5) ** (1 / count) - 1)
    assert gain_db(count, 1, 15, combining="ideal") == pytest.approx(15 - needed, abs=0.11)


def test_without_soft_bits_of_earlier_transmissions_only_versions_that_decode_alone_decode():
    """Efficiency 0: RV 2 and RV 1, the second and fourth transmission, have too few of the block's own bits."""
    cell = Cell(harq_rtt_slots=1, combining_efficiency=0)
    cell.run(-20, decide=use(15))
    cell.run(60)
    assert cell.of("outcome") == [SENT_NACK, SENT_NACK]
    cell.run(60)  # RV 3
    assert (cell.of("attempt")[-1], cell.of("outcome")[-1]) == (3, SENT_ACK)
    cell.run(-20, slots=3)
    cell.run(60)  # RV 1
    assert (cell.of("attempt")[-1], cell.of("outcome")[-1], cell.of("lost")[-1]) == (4, SENT_NACK, True)


def test_chase_without_soft_bits_decodes_each_transmission_alone():
    assert [gain_db(count, 1, 15, combining="chase", combining_efficiency=0) for count in (2, 3)] == 2 * [
        gain_db(1, 1, 15)
    ]


def test_the_worse_a_decoder_combines_the_less_it_gains():
    gains = [gain_db(2, 1, 20, combining_efficiency=efficiency) for efficiency in (0.25, 0.5, 0.75, 1)]
    assert gains == sorted(gains)
    assert gains[0] < gains[-1] - 1


def test_with_one_transmission_nothing_is_sent_again():
    cell = Cell(max_transmissions=1)
    cell.run(-20, slots=3 * RTT)
    assert cell.of("attempt") == [1] * 3 * RTT
    assert cell.of("lost") == [True] * 3 * RTT
    names = [MEASURED.index(f"retx_{name}") for name in ("ack", "nack", "mcs_sum")]
    assert cell.reports[-1].measured[0, names].tolist() == [0, 0, 0]
    assert sum(report.harq_counts[:, RESIDUAL].sum() for report in cell.reports) == 2 * RTT


@pytest.mark.parametrize(("rtt", "processes"), [(8, 3), (16, 8), (64, 32), (2, 1)])
def test_with_fewer_processes_than_the_round_trip_nothing_is_sent_in_the_slots_that_are_left(rtt, processes):
    cell = Cell(harq_rtt_slots=rtt, processes=processes)
    cell.run(40, slots=3 * rtt)
    free = [slot % rtt < processes for slot in range(3 * rtt)]
    assert [outcome != IDLE for outcome in cell.of("outcome")] == free
    assert [not result.stalled for result in cell.results] == free
    assert cell.reports[-1].total_first_tx.tolist() == [2 * processes]


@pytest.mark.parametrize(("rtt", "processes"), [(8, 8), (8, 16), (1, 1)])
def test_with_enough_processes_every_slot_is_used(rtt, processes):
    cell = Cell(harq_rtt_slots=rtt, processes=processes)
    cell.run(40, slots=3 * rtt)
    assert IDLE not in cell.of("outcome")


def test_blocks_of_a_process_are_sent_again_in_it_when_others_stall():
    cell = Cell(harq_rtt_slots=4, processes=2, max_transmissions=2)
    cell.run(8, decide=use(20))  # lost by 12 dB
    cell.run(-20, slots=7)
    assert cell.of("attempt") == [1, 1, 0, 0, 2, 2, 0, 0]
    assert cell.of("lost") == [False] * 4 + [True] * 2 + [False] * 2


def test_ues_of_all_three_mcs_tables_share_a_cell():
    """Each goes up to its own table's top, and what is sent again has the size of its first transmission."""
    cell = Cell(3, mcs_table=[1, 2, 3], harq_rtt_slots=1)
    assert cell.run(60, decide=lambda report: decisions(report, MCS_OFFSET, 28)) == Counter(accepted=3)
    assert cell.results[0].mcs.tolist() == [28, 27, 28]
    assert +cell.run(60, decide=use([28, 28, 28])) == Counter(accepted=2, mcs_out_of_range=1)
    assert cell.run([28 - 3, 27 - 3, 28 - 3], decide=use([28, 27, 28])) == Counter(accepted=3)
    cell.run([28 - 3, 27 - 3, 28 - 3], decide=use([0, 0, 0]))
    assert cell.results[-2].outcome.tolist() == [SENT_NACK] * 3
    assert cell.results[-1].mcs.tolist() == [28, 27, 28]
    assert cell.results[-1].attempt.tolist() == [2] * 3
    assert cell.results[-1].outcome.tolist() == [SENT_ACK] * 3


def test_ues_of_different_tables_combine_as_if_each_were_alone():
    sinr_db = [28 - 8, 27 - 9.5, 28 - 7]
    together = Cell(3, mcs_table=[1, 2, 3], harq_rtt_slots=1, prbs=4, max_transmissions=8)
    together.run(sinr_db, decide=use([28, 27, 28]))
    together.run(sinr_db, slots=7)
    for ue, (table, mcs) in enumerate([(1, 28), (2, 27), (3, 28)]):
        alone = Cell(1, mcs_table=table, harq_rtt_slots=1, prbs=4, max_transmissions=8)
        alone.run(sinr_db[ue], decide=use(mcs))
        alone.run(sinr_db[ue], slots=7)
        assert together.of("outcome", ue) == alone.of("outcome")
        assert 2 in together.of("attempt", ue)


@pytest.mark.parametrize(("setting", "value", "of_ue"), [("carrier_prbs", 20, 21), ("carrier_layers", 1, 2)])
def test_a_carrier_smaller_than_an_allocation_is_an_error(setting, value, of_ue):
    ue = "ue1" if setting == "carrier_prbs" else "ue0"
    with pytest.raises(
        InputError, match=rf"^DU settings: {setting} = {value}: less than the {of_ue} of UE {ue} in trace made up$"
    ):
        Cell(2, **{setting: value})


def test_a_report_counts_the_retransmissions_since_the_one_before_that_sufficed_and_that_did_not():
    cell = Cell(harq_rtt_slots=1, period_slots=4, combining="chase")
    cell.run(9.5, decide=use(15))  # 9.5 dB, 12.5, 14.3, 15.5: the fourth transmission is enough
    cell.run(9.5, slots=4 * 4)
    names = [MEASURED.index(f"retx_{name}") for name in ("ack", "nack", "mcs_sum")]
    counts = [report.measured[0, names].tolist() for report in cell.reports]
    assert counts == [[0, 0, 0]] + [[1, 2, 3 * 15]] * 4


@pytest.mark.parametrize("most", [1, 4, 8])
def test_a_bundle_reads_over_e2_how_many_transmissions_the_du_allows(most):
    cell = Cell(max_transmissions=most)
    cell.run(10)
    header, message = encode_indication(cell.reports[0], Identity())
    received = decode_indication(decode_indication_header(header), message, Counter())
    assert Layout(["mcs_table", "max_transmissions"]).matrix(received).tolist() == [[1, most]]


@pytest.mark.parametrize(("combining", "reported"), [("chase", 1), ("ir", 2), ("ideal", 2)])
def test_a_report_has_the_combining_of_retransmissions(combining, reported):
    cell = Cell(combining=combining)
    cell.run(10)
    assert cell.reports[0].measured[:, MEASURED.index("combining")].tolist() == [reported]


@pytest.mark.parametrize("most", [1, 2, 4])
def test_after_the_last_transmission_the_block_is_lost(most):
    cell = Cell(max_transmissions=most)
    cell.run(-20, slots=RTT * most)
    cell.run(40, slots=2 * RTT)
    first_process = slice(None, None, RTT)
    assert cell.of("attempt")[first_process] == [*range(1, most + 1), 1, 1]
    assert cell.of("lost")[first_process] == [0] * (most - 1) + [1, 0, 0]
    assert cell.of("outcome")[first_process] == [SENT_NACK] * most + [SENT_ACK] * 2
    residual = [int(report.harq_counts[:, RESIDUAL].sum()) for report in cell.reports]
    assert residual == [0] * (RTT * most) + [1] * RTT + [0] * RTT
    failed = sum(report.harq_counts[:, NACK].sum() for report in cell.reports)
    assert failed == RTT, "retransmissions are not first transmissions"


def random_cell(period, rng, slots, absent=0.0, **config):
    """UEs on a random channel with the real curves, decisions of all kinds at random; the cell, and CQI [slot, ue]."""
    cell = Cell(6, SmoothBler.load(), period_slots=period, harq_rtt_slots=5, **config)
    sinr_db = rng.uniform(0, 20, 6) + rng.normal(0, 4, (slots, 6))
    sinr_db[rng.random((slots, 6)) < absent] = np.nan
    cqi = rng.integers(NO_CQI, 16, (slots, 6))
    for slot in range(slots):
        kind = rng.integers(0, 3, 6)
        value = np.where(kind == MCS, rng.integers(0, 29, 6), rng.integers(-4, 5, 6))
        due = slot % period == 0 and slot > 20 and rng.random() < 0.5

        def decide(report, kind=kind, value=value):
            return decisions(report, kind[: report.num_ues], value[: report.num_ues], valid_for_slots=3)

        cell.run(sinr_db[slot], cqi[slot], decide=decide if due else None)
    return cell, cqi


@pytest.mark.parametrize("period", [1, 3, 20])
def test_reports_count_the_feedback_since_the_previous_one(period):
    cell, _ = random_cell(period, np.random.default_rng(period), 400)
    total = np.zeros(6)
    for index, report in enumerate(cell.reports):
        stop = index * period - 5 + 1  # slots whose feedback is in
        naive = Counter()
        for result in cell.results[max(0, stop - period) : max(0, stop)]:
            for ue in range(6):
                key = (ue, int(result.mcs[ue]))
                if result.attempt[ue] == 1:
                    naive[(*key, ACK if result.outcome[ue] == SENT_ACK else NACK)] += 1
                    total[ue] += 1
                naive[(*key, RESIDUAL)] += int(result.lost[ue])
        counted = Counter()
        for ue, mcs, counts in zip(report.harq_ue, report.harq_mcs, report.harq_counts, strict=True):
            counted.update({(ue, mcs, column): int(count) for column, count in enumerate(counts)})
        assert +counted == +naive
        pairs = list(zip(report.harq_ue, report.harq_mcs, strict=True))
        assert len(set(pairs)) == len(pairs)
        np.testing.assert_array_equal(report.total_first_tx, total)
    assert total.min() > 100


def cqi_of(cqi, slot, ue, period, delay):
    """The CQI that the DU has in a slot and its age: measured every period, by phase of the UE, known after a delay."""
    known = [t for t in range(slot - delay + 1) if t % period == ue % period and cqi[t, ue] != NO_CQI]
    return (cqi[known[-1], ue], slot - known[-1]) if known else (np.nan, np.nan)


@pytest.mark.parametrize("seed", range(3))
def test_native_choice_is_olla_fed_with_feedback_to_its_own_mcs(seed):
    """`CqiOlla` driven by hand gives every native MCS, under overrides of all kinds and with UEs that come and go."""
    cell, cqi = random_cell(1, np.random.default_rng(seed), 400, 0.1, cqi_period_slots=10, cqi_delay_slots=3)
    olla = CqiOlla(DuConfig().olla(), np.ones(6, np.int64), np.ones(6, np.int64))
    by_hand = []
    for slot, (report, result) in enumerate(zip(cell.reports, cell.results, strict=True)):
        if slot >= 5:
            sent = cell.results[slot - 5]
            own = (sent.attempt == 1) & (sent.mcs == by_hand[slot - 5])
            olla.update(sent.mcs, own & (sent.outcome == SENT_ACK), own & (sent.outcome == SENT_NACK))
        olla.observe_cqi(np.array([cqi_of(cqi, slot, ue, 10, 3)[0] for ue in range(6)], np.float32))
        by_hand.append(olla.mcs())
        here = result.outcome != IDLE
        np.testing.assert_array_equal(report.measured[:, MEASURED.index("native_mcs")], by_hand[slot][here])


def test_an_override_freezes_the_native_choice():
    cell = Cell()
    cell.run(-20, decide=use(NATIVE_MCS + 5))
    cell.run(-20, slots=300)
    assert cell.of("outcome").count(SENT_ACK) == 0
    assert {int(report.measured[0, MEASURED.index("native_mcs")]) for report in cell.reports} == {NATIVE_MCS}


def test_the_native_choice_falls_with_its_own_failures_and_rises_with_success():
    down, up = Cell(olla_step_on_nack=0.5), Cell(olla_step_on_nack=0.5)
    down.run(-20, slots=300)
    up.run(60, slots=3000)
    assert down.of("mcs")[0] == up.of("mcs")[0] == NATIVE_MCS
    assert down.of("mcs")[-1] == 0
    assert up.of("mcs")[-1] == int(mcs_for_cqi(1, 1)[15])


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (MCS, 3, 3), (MCS, 27, 27), (MCS_OFFSET, 2, NATIVE_MCS + 2), (MCS_OFFSET, -3, NATIVE_MCS - 3),
        (MCS_OFFSET, 28, 28), (MCS_OFFSET, -28, 0), (NATIVE, 0, NATIVE_MCS),
    ],
)  # fmt: skip
def test_the_kinds_of_decision(kind, value, expected):
    cell = Cell()
    outcome = cell.run(60, decide=lambda report: decisions(report, kind, value))
    assert outcome == Counter(accepted=1)
    assert cell.of("mcs") == [expected]


def test_an_offset_ends_at_the_top_of_the_ues_own_table():
    cell = Cell(mcs_table=2)
    cell.run(60, decide=lambda report: decisions(report, MCS_OFFSET, 28))
    assert cell.of("mcs") == [27]


@pytest.mark.parametrize("delay", [0, 1, 5])
def test_a_decision_takes_effect_after_the_delay(delay):
    cell = Cell(decision_delay_slots=delay)
    cell.run(60, slots=3)
    cell.run(60, decide=use(2))
    cell.run(60, slots=9)
    assert [mcs == 2 for mcs in cell.of("mcs")] == [slot >= 3 + delay for slot in range(13)]


def test_a_decision_that_arrives_late_takes_effect_at_once():
    cell = Cell(period_slots=10, decision_delay_slots=2)
    cell.run(60, slots=6)
    cell.run(60, decide=use(2))  # answers the report of slot 0
    assert [mcs == 2 for mcs in cell.of("mcs")] == [False] * 6 + [True]


def test_a_decision_expires_and_leaves_the_ue_to_the_du():
    cell = Cell()
    cell.run(60, slots=2)
    cell.run(60, decide=use(2, valid_for_slots=4))
    cell.run(60, slots=7)
    assert [mcs == 2 for mcs in cell.of("mcs")] == [2 <= slot < 6 for slot in range(10)]


REJECTED = {
    "unknown_cell": {"cell_id": "elsewhere"},
    "stale": {"answers_sequence": 1},
    "expired": {"valid_for_slots": 0},
    "unknown_ue": {"rnti": np.array([1, 2])},
    "mcs_out_of_range": {},
}


@pytest.mark.parametrize("cause", REJECTED)
def test_unusable_decisions_are_rejected_counted_and_reported(cause):
    cell = Cell(2)
    cell.run(60)
    cell.run(60, decide=lambda report: decisions(report, NATIVE, 0))  # the latest accepted answers report 2
    mcs = [29, -1] if cause == "mcs_out_of_range" else 2
    outcome = cell.run(60, decide=use(mcs, **REJECTED[cause]))
    assert +outcome == Counter({cause: 2})
    assert cell.du.rejected == Counter({cause: 2})
    assert cell.of("mcs") == cell.of("mcs", 1) == [NATIVE_MCS] * 3


def test_answers_to_reports_never_sent_and_mcs_beyond_the_ues_own_table():
    assert Cell().run(60, decide=use(2, answers_sequence=7)) == Counter(stale=1)
    assert +Cell(mcs_table=2).run(60, decide=use(28)) == Counter(mcs_out_of_range=1)


def test_one_bad_ue_does_not_spoil_the_message():
    cell = Cell(3)
    rnti = Cell(3).du.report(0).rnti
    outcome = cell.run(60, decide=use([29, 4, 4], rnti=np.array([rnti[0], 9, rnti[2]])))
    assert outcome == Counter(accepted=1, unknown_ue=1, mcs_out_of_range=1)
    assert cell.results[0].mcs.tolist() == [NATIVE_MCS, NATIVE_MCS, 4]


@pytest.mark.parametrize(("period", "delay"), [(1, 0), (4, 0), (5, 3), (3, 7)])
def test_cqi_is_measured_by_period_and_phase_and_known_after_a_delay(period, delay):
    cell = Cell(4, cqi_period_slots=period, cqi_delay_slots=delay)
    cqi = np.random.default_rng(period).integers(NO_CQI, 16, (40, 4))
    for row in cqi:
        cell.run(10, row)
    for slot, report in enumerate(cell.reports):
        for ue in range(4):
            columns = [MEASURED.index("cqi"), MEASURED.index("cqi_age_slots")]
            np.testing.assert_array_equal(report.measured[ue, columns], cqi_of(cqi, slot, ue, period, delay))


def test_a_report_has_its_slot_and_the_values_that_the_du_knows():
    cell = Cell(2, period_slots=30)
    cell.run(10, slots=91)
    assert [(r.sequence, r.sfn, r.slot, r.timestamp_us) for r in cell.reports] == [
        (1, 0, 0, 0), (2, 1, 10, 15_000), (3, 3, 0, 30_000), (4, 4, 10, 45_000)
    ]  # fmt: skip
    last = cell.reports[-1]
    assert last.period_slots == 30
    assert last.measured[:, MEASURED.index("prbs")].tolist() == [20, 21]
    assert last.measured[:, MEASURED.index("ri")].tolist() == [2, 2]


def test_a_ue_that_is_away_sends_nothing_and_keeps_its_block():
    cell = Cell(2)
    cell.run(8, decide=use(10))  # both blocks lost
    cell.run(8, slots=RTT - 1)
    cell.run([np.nan, 8])
    cell.run(8, slots=RTT)
    assert cell.of("outcome")[::RTT] == [SENT_NACK, IDLE, SENT_ACK]
    assert cell.of("outcome", 1)[::RTT] == [SENT_NACK, SENT_ACK, SENT_NACK]
    assert (cell.of("attempt")[2 * RTT], cell.of("mcs")[2 * RTT]) == (2, 10)
    assert cell.reports[RTT].rnti.tolist() == cell.reports[0].rnti.tolist()[1:]


def test_feedback_for_a_ue_that_is_away_is_reported_when_it_is_back():
    cell = Cell(2)
    cell.run(60, slots=RTT)
    cell.run([np.nan, 60])  # the feedback of slot 0 arrives here
    cell.run(60, slots=RTT)
    counted = np.zeros(2)
    for report in cell.reports:
        np.add.at(counted, (report.rnti - cell.reports[0].rnti[0])[report.harq_ue], report.harq_counts[:, ACK])
    np.testing.assert_array_equal(counted, cell.reports[-1].total_first_tx)
