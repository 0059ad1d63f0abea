"""Circular buffer, redundancy versions and limited buffer of TS 38.212; Sionna's encoder is the reference."""

import warnings

import numpy as np
import pytest

from distila.xapp.nr.rate_matching import CodeBlock, base_graph, limited_buffer_bits


def sionna_encoder(k, n, graph):
    ldpc = pytest.importorskip(
        "sionna.phy.fec.ldpc", reason="compares with the encoder of sionna-no-rt", exc_type=ImportError
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ldpc.LDPC5GEncoder(k, n, bg=f"bg{graph}", device="cpu")


@pytest.mark.parametrize(
    ("tbs_bits", "code_rate", "graph"),
    [(292, 0.9, 2), (293, 0.68, 1), (293, 0.67, 2), (3824, 0.67, 2), (3825, 0.67, 1), (3825, 0.25, 2), (8000, 0.26, 1)],
)
def test_the_base_graph_follows_size_and_rate(tbs_bits, code_rate, graph):
    assert base_graph(tbs_bits, code_rate) == graph


@pytest.mark.parametrize("graph", [1, 2])
@pytest.mark.parametrize("bits", [24, 191, 193, 320, 561, 640, 641, 1056, 2560, 3840])
def test_the_lifting_size_is_sionnas(bits, graph):
    assert CodeBlock(graph, bits).lifting_size == sionna_encoder(bits, 2 * bits, graph).z


@pytest.mark.parametrize(("graph", "bits"), [(1, 1056), (1, 1000), (2, 1056), (2, 300)])
@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_a_transmission_carries_the_bits_that_sionna_sends(graph, bits, version):
    torch = pytest.importorskip("torch", exc_type=ImportError)
    block = CodeBlock(graph, bits)
    begin, end = block.filler
    # Sionna has no lower code rate.
    whole = min(block.buffer_bits - (end - begin), (3 if graph == 1 else 5) * bits)
    u = torch.randint(0, 2, (3, bits), generator=torch.Generator().manual_seed(1)).float()
    buffer = sionna_encoder(bits, whole, graph)(u).numpy()
    codeword = np.full((3, block.codeword_bits), np.nan)
    codeword[:, block.sent_bits(whole, 0)] = buffer
    count = 2 * bits
    sent = sionna_encoder(bits, count, graph)(u, rv=[version]).numpy().reshape(3, count)
    ours = codeword[:, block.sent_bits(count, version)]
    known = ~np.isnan(ours)
    assert known.mean() > 0.5
    assert (ours[known] == sent[known]).all()


def test_filler_bits_and_the_first_two_columns_are_never_sent():
    block = CodeBlock(1, 1000)
    begin, end = block.filler
    assert (begin, end) == (1000, 22 * block.lifting_size)
    for version in range(4):
        sent = block.sent_bits(10_000, version)
        assert sent.min() >= 2 * block.lifting_size
        assert not ((sent >= begin) & (sent < end)).any()


def test_a_limited_buffer_repeats_what_it_has_sent():
    """At 1.5 times the block no number of transmissions brings more than 1.5 times its bits."""
    block = CodeBlock(1, 1056, limited_bits=1584)
    sent = np.concatenate([block.sent_bits(1140, version) for version in (0, 2, 3, 1)])
    assert len(np.unique(sent)) == 1584
    assert len(np.unique(block.sent_bits(5000, 0))) == 1584


def test_the_largest_block_of_a_carrier_is_limited_to_rate_two_thirds():
    assert limited_buffer_bits(num_code_blocks=10, lbrm_tbs_bits=80_000) == 12_000


@pytest.mark.parametrize(
    ("graph", "bits", "limited", "text"),
    [(1, 8449, None, "8449"), (2, 3841, None, "3841"), (1, 23, None, "23"), (1, 1000, 999, "999")],
)
def test_what_no_code_block_can_be_is_an_error(graph, bits, limited, text):
    with pytest.raises(ValueError, match=text):
        CodeBlock(graph, bits, limited)


def test_carried_bits_are_those_of_the_transmissions():
    block = CodeBlock(2, 640)
    carried = block.carried(1200, 4, (0, 2, 3))
    assert carried.size @ carried.count.sum(axis=(1, 2)) == 3 * 1200
    assert (carried.size @ carried.count.sum(axis=1) == [1800, 1800]).all(), "half of the bits at each level"
    sent = np.unique(np.concatenate([block.sent_bits(1200, version) for version in (0, 2, 3)]))
    assert carried.size.sum() == len(sent)
    assert carried.size[carried.systematic].sum() == (sent < 640).sum()
