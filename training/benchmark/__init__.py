"""The benchmark: any policies over any scenarios, paired, with intervals; tuning; the simulator's speed.

`episode` runs one policy on one scenario, `runner` all of them with resume, `suite` is a whole benchmark, `results`
sums up, `report`, `charts` and `view` draw, `tune` finds the baselines' settings, `sim_speed` times the simulator.
"""
