"""Measured points of HARQ combining: the decoder that made them, the table, and the rule that was fitted to them."""

import csv
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch", exc_type=ImportError)
pytest.importorskip("sionna")

from distila.training.harq_fit import fit, measure  # noqa: E402
from distila.training.harq_fit.bench import bench_harq  # noqa: E402
from distila.training.harq_fit.ldpc import Decoder, block_errors, received_llr  # noqa: E402
from distila.training.harq_fit.points import POINTS_FILE, read_thresholds  # noqa: E402
from distila.xapp.errors import InputError  # noqa: E402
from distila.xapp.nr.harq import OVERHEAD  # noqa: E402
from distila.xapp.nr.rate_matching import CodeBlock  # noqa: E402


@pytest.fixture(scope="module")
def rows():
    with POINTS_FILE.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_decoder_fails_on_the_blocks_on_which_sionnas_fails():
    """On the same log-likelihood ratios near the threshold; belief propagation is a little better than min-sum."""
    from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder

    code, num_bits, blocks = CodeBlock(2, 320), 640, 60
    generator = torch.Generator().manual_seed(3)
    llr = received_llr(torch.zeros(blocks, num_bits, dtype=torch.int64), 2, 1.2, generator)
    total = torch.zeros(blocks, code.codeword_bits)
    positions = code.sent_bits(num_bits, 0)
    total[:, torch.from_numpy(positions)] = llr
    begin, end = code.filler
    total[:, begin:end] = 100.0
    received = np.zeros(code.codeword_bits, bool)
    received[positions] = True
    ours = Decoder(code, received, 20).failed(total)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoder = LDPC5GEncoder(320, num_bits, bg="bg2", device="cpu")
        decoder = LDPC5GDecoder(encoder, cn_update="boxplus-phi", num_iter=20, device="cpu")
    theirs = (decoder(-llr) != 0).any(dim=1)
    assert 5 < int(theirs.sum()) < 55, "near the threshold"
    assert int((ours != theirs).sum()) <= 6
    assert int(ours.sum()) >= int(theirs.sum()) - 2


def test_a_point_is_measured_again_to_the_block(rows):
    """Masks, noise and decoder follow from the row."""
    row = next(row for row in rows if row["block_bits"] == "320" and 20 < int(row["errors"]) < 200)
    setting = measure.Setting.of_row(row)
    found = block_errors(
        setting.code,
        setting.order,
        setting.num_bits,
        setting.redundancy_versions,
        tuple(float(row["snr_db"]) + offset for offset in setting.offsets_db),
        int(row["blocks"]),
        int(row["seed"]),
    )
    assert abs(found - int(row["errors"])) <= 2, "float32 sums may differ from machine to machine"


def test_all_rows_are_of_settings_that_the_plan_has(rows):
    planned = {setting.key() for setting in measure.settings()}
    for row in rows:
        assert tuple(row[name] for name in measure.SETTING_FIELDS) in planned
        assert 0 <= int(row["errors"]) <= int(row["blocks"])


def test_the_shipped_overhead_is_the_fit_to_the_shipped_points():
    fitted, held_out = fit.split(read_thresholds())
    assert not {each.setting for each in fitted} & {each.setting for each in held_out}
    assert fit.fitted_overhead(fitted) == pytest.approx(OVERHEAD, abs=1e-4)


def test_combining_at_run_time_is_nearer_to_what_was_measured_than_the_ideal_rule():
    result = bench_harq()
    assert result.settings >= 100
    assert result.p95_error_db < 0.4
    assert abs(result.mean_error_db) < 0.1
    assert sum(errors.settings for errors in result.by_transmissions.values()) == result.settings
    for errors in result.by_transmissions.values():
        assert errors.ideal_mean_error_db > 0.5, "adding up capacities is too optimistic"
        assert errors.p95_error_db < errors.ideal_p95_error_db / 3
    assert result.by_group["buffers that carriers have"].p95_error_db < 0.3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("order", "rate", "versions", "decoded"),
    [
        (2, 0.30, (2,), True),
        (4, 0.48, (2,), True),
        (4, 0.64, (2,), False),
        (6, 0.75, (2,), False),
        (6, 0.75, (1,), False),
        (6, 0.75, (3,), True),
    ],
)
def test_which_versions_the_decoder_decodes_alone(order, rate, versions, decoded):
    """15 dB over what capacity asks for, base graph 1: the run-time rule says the same."""
    code = CodeBlock(1, 1056)
    num_bits = -int(-1040 / rate // order) * order
    snr_db = 10 * np.log10(2 ** (order * rate) - 1) + 15
    assert (block_errors(code, order, num_bits, versions, (snr_db,), 40, 1) == 0) == decoded


def test_an_interrupted_measurement_goes_on(tmp_path, monkeypatch, capsys):
    small = [measure.Setting("grid", 1, 9, 120, None, versions, (0.0,) * len(versions)) for versions in ((0,), (0, 2))]
    monkeypatch.setattr(measure, "settings", lambda: iter(small))
    out = tmp_path / "points.csv"
    monkeypatch.setattr("sys.argv", ["measure", "--out", str(out)])
    measure.main()
    whole = out.read_text()
    first = "".join(line for line in whole.splitlines(keepends=True) if ",0-2," not in line)
    out.write_text(first)
    capsys.readouterr()
    measure.main()
    assert "0-2" in capsys.readouterr().out
    assert sorted(out.read_text().splitlines()) == sorted(whole.splitlines())
    assert len(read_thresholds(out)) == 2


def test_a_file_that_is_no_table_of_points_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv: no such file"):
        read_thresholds(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"other\.csv: not a table of"):
        read_thresholds(tmp_path / "other.csv")
