"""The offline tools (torch): whatever produces the files that the runtime loads.

Where Gymnasium is installed, importing this registers the simulator as ``distila/LinkAdaptation-v0``.
"""

try:
    import gymnasium
except ImportError:  # only those who train need it
    pass
else:
    if "distila/LinkAdaptation-v0" not in gymnasium.registry:
        # By name, so that torch is not imported before an environment is made.
        gymnasium.register(
            "distila/LinkAdaptation-v0",
            entry_point="distila.training.gym_env:LinkAdaptationEnv",
            vector_entry_point="distila.training.gym_env:LinkAdaptationVectorEnv",
        )
