"""The simulator: many independent NR downlinks at once, as torch tensors over [slot, link].

Channels come from Sionna as banks of fading (`channels`, `bank`); `conditions` is everything that happens to a link
whatever is decided; `simulator` is what follows from decisions; `gym_env` is its Gymnasium front.
"""
