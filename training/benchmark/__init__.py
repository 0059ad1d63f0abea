"""The benchmark: any policies over any scenarios, paired, with intervals; tuning; the simulator's speed.

`sizes` says how large a run is, `episode` runs one policy on one scenario, `episode_pool` runs all of them over
processes and with resume, `suite` is a whole benchmark. `figures` computes what `results` holds, the models of
results.json; `view`, `verdict`, `page`, `charts` and `png_charts` show it. `tune` finds the baselines' settings,
`sim_speed` times the simulator.
"""
