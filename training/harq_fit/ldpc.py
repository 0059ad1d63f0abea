"""NR's LDPC code in HARQ operation: rate matching of TS 38.212 clause 5.4.2 and a batched layered min-sum decoder.

Error rates of a linear code over a symmetric channel do not depend on the codeword, so blocks are all-zero codewords
under a random mask that the receiver knows, as if each were another codeword; no encoder is needed. Repeated bits are
masked alike, so a repeated transmission repeats its QAM symbols, as on the air. The parity-check matrix comes from
Sionna's encoder.
"""

import warnings
from functools import cache
from typing import Final

import numpy as np
import torch
from torch import Tensor

from distila.xapp.nr.arrays import BoolArray
from distila.xapp.nr.bit_information import pam_amplitudes
from distila.xapp.nr.rate_matching import SYSTEMATIC_COLUMNS, BaseGraph, CodeBlock

_CORE_ROWS: Final = 4
"""Rows of the core parity; every later row ends in a parity column of its own of degree 1."""
_SCALE: Final = 0.75
"""Normalisation of min-sum messages."""
_FILLER_LLR: Final = 100.0


@cache
def base_matrix(graph: BaseGraph, block_bits: int, lifting_size: int) -> tuple[tuple[tuple[int, int], ...], ...]:
    """(column, shift) of the ones of every row of a base graph, as it is for blocks of this length."""
    from sionna.phy.fec.ldpc import LDPC5GEncoder

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoder = LDPC5GEncoder(block_bits, 2 * block_bits, bg=f"bg{graph}", device="cpu")
    if encoder.z != lifting_size:
        raise ValueError(f"lifting size of {block_bits} bits is {lifting_size}, Sionna has {encoder.z}")
    matrix = encoder.pcm.tocsr()
    rows = []
    for row in range(matrix.shape[0] // lifting_size):
        ones = matrix.indices[matrix.indptr[row * lifting_size] : matrix.indptr[row * lifting_size + 1]]
        rows.append(tuple(sorted((int(one) // lifting_size, int(one) % lifting_size) for one in ones)))
    return tuple(rows)


class Decoder:
    """Layered normalised min-sum.

    Args:
        code: the code.
        received: bool [codeword_bits], codeword bits that any transmission carried. Rows whose own parity bits were not
            received are left out, because they carry no information.
        iterations: at most.
    """

    def __init__(self, code: CodeBlock, received: BoolArray, iterations: int = 20) -> None:
        self._z, self._iterations = code.lifting_size, iterations
        self._info = code.block_bits
        core = SYSTEMATIC_COLUMNS[code.graph] + _CORE_ROWS
        columns: BoolArray = np.any(received.reshape(-1, self._z), axis=1)
        self._rows = [
            row
            for index, row in enumerate(base_matrix(code.graph, code.block_bits, code.lifting_size))
            if index < _CORE_ROWS or columns[core + index - _CORE_ROWS]
        ]

    def failed(self, llr: Tensor) -> Tensor:
        """Which blocks are not decoded, bool [block].

        Args:
            llr: float32 [block, codeword_bits], positive for the bit 0, which all bits are.
        """
        count, z = len(llr), self._z
        # [column, lifted bit, block]: shifts move whole rows of memory.
        posterior = llr.T.reshape(-1, z, count).contiguous()
        messages: list[Tensor] = [torch.zeros(len(row), z, count) for row in self._rows]
        failed = torch.ones(count, dtype=torch.bool)
        left = torch.arange(count)
        for _ in range(self._iterations):
            for index, row in enumerate(self._rows):
                self._update(posterior, row, messages[index])
            # A receiver stops when the CRC passes; a bit of which nothing is known is wrong too.
            wrong = (posterior.view(-1, len(left))[: self._info] <= 0).any(dim=0)
            failed[left[~wrong]] = False
            if not wrong.any():
                break
            if int(wrong.sum()) < 0.7 * len(left):
                left = left[wrong]
                posterior = posterior[..., wrong].contiguous()
                messages = [each[..., wrong].contiguous() for each in messages]
        return failed

    @staticmethod
    def _update(posterior: Tensor, row: tuple[tuple[int, int], ...], message: Tensor) -> None:
        """One row of the base graph: new messages, and the posterior of its bits, in place."""
        incoming = torch.stack([torch.roll(posterior[column], -shift, 0) for column, shift in row])
        incoming -= message
        magnitude = incoming.abs()
        smallest, place = magnitude.min(dim=0, keepdim=True)
        second = magnitude.scatter(0, place, torch.inf).amin(dim=0, keepdim=True)
        message.copy_(smallest.expand_as(message))
        message.scatter_(0, place, second)
        negative = incoming < 0
        parity = negative.sum(dim=0, keepdim=True) % 2 == 1
        message.mul_(_SCALE).mul_(1.0 - 2.0 * (negative ^ parity))
        incoming += message
        for index, (column, shift) in enumerate(row):
            posterior[column] = torch.roll(incoming[index], shift, 0)


def received_llr(sent: Tensor, order: int, snr_db: float, generator: torch.Generator) -> Tensor:
    """Log-likelihood ratios after square QAM, AWGN and exact demapping.

    Args:
        sent: int64 [blocks, num_bits], the bits; E is a multiple of ``order``. Bit interleaving of TS 38.212 clause
            5.4.2.2 decides which of them are reliable.
        order: bits per symbol Q_m: 2, 4, 6, 8.
        snr_db: mean symbol energy over noise power.
        generator: of the noise.

    Returns:
        float32 [blocks, num_bits], positive for the bit that was sent.
    """
    blocks, num_bits = sent.shape
    symbols, half = num_bits // order, order // 2
    amplitude = torch.from_numpy(pam_amplitudes(half)).float()
    variance = 0.5 * 10 ** (-snr_db / 10)
    # Bit i of symbol j is e[i * symbols + j]; bits 0, 2, 4... are of the in-phase part, 1, 3, 5... of the quadrature.
    bits = sent.view(blocks, half, 2, symbols)
    noise = torch.randn(blocks, 2, symbols, generator=generator)
    weights = (2 ** torch.arange(half - 1, -1, -1)).view(1, half, 1, 1)
    received = amplitude[(bits * weights).sum(dim=1)] + variance**0.5 * noise
    llr = torch.empty(blocks, half, 2, symbols)
    if half == 1:
        llr[:, 0] = 2 * float(amplitude[0]) * received / variance
    else:
        metric = (received[..., None] - amplitude).square_().mul_(-0.5 / variance)
        label = torch.arange(2**half)
        for place in range(half):
            zero = (label >> (half - 1 - place)) & 1 == 0
            llr[:, place] = metric[..., zero].logsumexp(-1) - metric[..., ~zero].logsumexp(-1)
    llr *= 1.0 - 2.0 * bits
    return llr.view(blocks, num_bits)


def block_errors(
    code: CodeBlock,
    order: int,
    num_bits: int,
    redundancy_versions: tuple[int, ...],
    snr_db: tuple[float, ...],
    blocks: int,
    seed: int,
    iterations: int = 20,
) -> int:
    """Blocks that are not decoded after all of these transmissions together.

    Args:
        code: the code.
        order: Q_m.
        num_bits: E, of every transmission.
        redundancy_versions: of the transmissions, in order.
        snr_db: of each.
        blocks: how many are sent.
        seed: of masks and noise; the same at every SNR, so that curves are smooth.
        iterations: of the decoder, at most.
    """
    generator = torch.Generator().manual_seed(seed)
    mask = torch.randint(0, 2, (blocks, code.codeword_bits), generator=generator)
    # The scrambling of TS 38.211 clause 7.3.1.1 is the same in every slot.
    scrambling = torch.randint(0, 2, (num_bits,), generator=generator)
    total = torch.zeros(blocks, code.codeword_bits)
    received = np.zeros(code.codeword_bits, bool)
    for version, snr in zip(redundancy_versions, snr_db, strict=True):
        positions = torch.from_numpy(code.sent_bits(num_bits, version))
        received[positions.numpy()] = True
        total.index_add_(1, positions, received_llr(mask[:, positions] ^ scrambling, order, snr, generator))
    begin, end = code.filler
    total[:, begin:end] = _FILLER_LLR
    return int(Decoder(code, received, iterations).failed(total).sum())
