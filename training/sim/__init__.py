"""The simulator: many independent NR downlinks at once, as torch tensors over [slot, link].

`channels` makes fading with Sionna (`rays`, `precoding`, `link_budget`), `bank` keeps it; `scenario` says what to draw
from; `conditions` is everything that happens to a link whatever is decided, `simulator` what follows from decisions
(`link`, `traffic`), `report` what policies read and answer; `gym_env` is the Gymnasium environment.
"""
