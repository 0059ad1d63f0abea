"""Fading of the simulator's tests: none, or gains that move from slot to slot."""

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def flat_channel(monkeypatch):
    # Imported here: where torch is not installed, tests skip, and collecting them must work.
    from simulated_links import a_bank

    from distila.training.sim import conditions
    from distila.training.sim.bank import NUM_NODES

    def bank(config, rows, slots, split, seed, *_):
        return a_bank(config, np.zeros((rows, config.antennas.max_rank, slots, NUM_NODES)), seed, split)

    monkeypatch.setattr(conditions, "fading_bank", bank)


@pytest.fixture
def fading(monkeypatch):
    """Gains that move from slot to slot, the same for every MCS."""
    from simulated_links import a_bank

    from distila.training.sim import conditions
    from distila.training.sim.bank import NUM_NODES

    def bank(config, rows, slots, *_):
        steps = np.random.default_rng(5).normal(0, 60, (rows, 1, slots, 1)).cumsum(axis=2)
        gains = 800 * np.sin(steps / 400) - 200
        return a_bank(config, np.repeat(np.repeat(gains, config.antennas.max_rank, axis=1), NUM_NODES, axis=3))

    monkeypatch.setattr(conditions, "fading_bank", bank)
