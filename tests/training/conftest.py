"""What all tests of the workshop share."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

WORKSHOP = {
    "torch",
    "torchrl",
    "tensordict",
    "sionna",
    "onnx",
    "scipy",
    "matplotlib",
    "gymnasium",
    "tensorboard",
    "ray",
}
"""Packages of the extras `training` and `scale`; where one is missing, the tests that import it skip."""


def _skip_what_is_not_installed(error: BaseException | None) -> None:
    """Skip if a package of the workshop could not be imported, however deep in the causes of ``error`` that is."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and str(error.name).split(".")[0] in WORKSHOP:
            pytest.skip(f"{error.name} is not installed: pip install 'distila[scale]'", allow_module_level=True)
        error = error.__cause__ or error.__context__


class _Module(pytest.Module):
    """A test module that is skipped where it cannot be imported for want of a package of the workshop."""

    def collect(self) -> Any:
        try:
            return super().collect()
        except self.CollectError as error:
            _skip_what_is_not_installed(error)
            raise


def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> pytest.Module:
    return _Module.from_parent(parent, path=module_path)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Iterator[None]:
    try:
        return (yield)
    except ModuleNotFoundError as error:
        _skip_what_is_not_installed(error)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    try:
        return (yield)
    except ModuleNotFoundError as error:
        _skip_what_is_not_installed(error)
        raise


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Small tensors: where cores are busy, threads wait for each other much longer than they work."""
    try:
        import torch
    except ImportError:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


STEADY = """\
name: steady
channels: [{model: TDL-A}]
snr_db: {uniform: [0, 28]}
link: {bler_shift_db: {normal: [0, 1]}}
cqi: {bias_db: {normal: [0, 3]}, period_slots: 10, delay_slots: 4}
"""
"""Links differ in SNR, receivers in their BLER curves, and CQI has an error that only HARQ feedback can tell."""


@pytest.fixture(scope="session")
def steady() -> str:
    """The file of scenario ``steady``."""
    return STEADY


@pytest.fixture
def scenario() -> Callable[..., Any]:
    """A scenario named ``steady``, with other settings on top."""
    from distila.training.sim.scenario import Scenario

    return lambda **settings: Scenario.model_validate({**yaml.safe_load(STEADY), **settings})


def _without_fading(patch: pytest.MonkeyPatch) -> None:
    import numpy as np

    from distila.training.benchmark import episode_pool
    from distila.training.learning import episodes
    from distila.training.sim import conditions
    from distila.training.sim.bank import NUM_NODES, FadingBank

    def flat(config: Any, rows: int, slots: int, split: Any, seed: int, *_: Any) -> FadingBank:
        gain_cdb = np.zeros((rows, config.antennas.max_rank, slots, NUM_NODES), np.int16)
        return FadingBank(config, seed, gain_cdb, np.full(rows, 3, np.float32), np.zeros(rows, np.float32), split)

    for module in (conditions, episodes, episode_pool):
        patch.setattr(module, "fading_bank", flat)


@pytest.fixture
def no_fading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Banks of channels that never change; they are not made by Sionna, and not kept."""
    _without_fading(monkeypatch)


@pytest.fixture(scope="module")
def no_fading_in_this_module() -> Iterator[None]:
    """The same, for what a module's tests share."""
    with pytest.MonkeyPatch.context() as patch:
        _without_fading(patch)
        yield


@pytest.fixture
def distila() -> Callable[..., Any]:
    """The command line, with the subcommands of this checkout: exit status, stdout and stderr."""
    from command_line import distila

    return distila


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory: empty, but for ``steady.yaml`` and the same with a slow E2, ``reported.yaml``."""
    monkeypatch.chdir(tmp_path)
    Path("steady.yaml").write_text(STEADY)
    Path("reported.yaml").write_text(STEADY.replace("steady", "reported") + "e2: {period_slots: 10, delay_slots: 5}\n")
    return tmp_path


@pytest.fixture
def tiny(workplace: Path) -> Callable[..., Any]:
    """The configuration of a training that takes a second, with other settings on top."""
    from distila.training.teachers.privileged import PrivilegedConfig

    given = {"scenarios": ["steady.yaml"], "links": 16, "slots": 40, "episodes": 4, "checkpoint_every": 1}
    given |= {"bank_rows": 2, "bank_slots": 64}

    def make(network: dict[str, Any] | None = None, **settings: Any) -> PrivilegedConfig:
        net = {"hidden": [16], "head": "value", **(network or {})}
        return PrivilegedConfig.model_validate({**given, "network": net, **settings})

    return make


@pytest.fixture
def train() -> Callable[..., Any]:
    """Train what `tiny` says."""
    from distila.training.learning import trainer
    from distila.training.teachers.privileged import PrivilegedObjective

    def run(config: Any, out: str = "out", objective: Any = None, **settings: Any) -> Any:
        # TensorBoard writes later on, perhaps when the current directory is another one.
        return trainer.train(config, objective or PrivilegedObjective(config), Path(out).absolute(), **settings)

    return run


@pytest.fixture
def same_weights() -> Callable[..., bool]:
    """Whether two networks have the same weights, bit by bit."""
    import torch

    def same(one: Any, other: Any) -> bool:
        one, other = one.state_dict(), other.state_dict()
        return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)

    return same


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Ray on this machine, ended afterwards. It has 30 seconds to start, which may be too few on a busy machine."""
    module = pytest.importorskip("ray")
    for attempt in (1, 2, 3):
        try:
            module.init(num_cpus=2, object_store_memory=10**8, include_dashboard=False, log_to_driver=False)
            break
        except Exception as error:
            module.shutdown()
            if attempt == 3:
                pytest.skip(f"Ray does not start here: {error}")
    yield module
    module.shutdown()


@pytest.fixture
def policy_figures() -> Callable[..., dict[str, Any]]:
    """Figures of a policy in a family, as in results.json, with others on top."""
    figures = {
        "base": "salad",
        "seat": "du",
        "settings": {"target": 0.1},
        "takes_target": False,
        "decided_share": 1.0,
        "goodput": 2.0,
        "goodput_p5": 0.5,
        "gain_vs_olla_pct": {"mean": 1.0, "ci95": [0.5, 1.5]},
        "gain_kind": "better",
        "first_tx_bler": 0.1,
        "bler_vs_olla": {"mean": 0.0, "ci95": [0.0, 0.0]},
        "transmissions_per_block": 1.1,
        "retransmission_share": 0.09,
        "stalled_slot_share": 0.0,
        "block_delay_ms": {"p50": 0.5, "p95": 4.5, "p99": 8.5},
        "residual_bler": 0.0002,
        "residual_vs_olla": {"mean": 0.0, "ci95": [0.0, 0.0]},
        "genie_share_pct": None,
        "mean_mcs": 14.25,
        "file_delay_ms": None,
        "goodput_percentiles": [0.1 * place for place in range(21)],
        "gain_by_speed": [],
        "elapsed_s": 1.5,
    }
    return lambda **changes: {**figures, **changes}


@pytest.fixture
def family_results() -> Callable[..., dict[str, Any]]:
    """A family with these policies, as in results.json, with other facts on top."""
    facts = {"unseen": False, "slot_us": 500.0, "e2_period_ms": 0.5, "e2_delay_ms": 0.0, "links": 64, "bursty_share": 0}
    return lambda policies, **changes: {**facts, "description": "made up", "policies": policies, **changes}


@pytest.fixture
def benchmark_results() -> Callable[..., Any]:
    """The results of a benchmark of these families, without BLER targets."""
    from distila.training.benchmark.results import BenchmarkResults

    settings = {"links": 64, "duration_ms": 2000.0, "seeds": [0, 1], "split": "test"}

    def made(families: dict[str, Any], averages: Any = None, **changes: Any) -> Any:
        facts = {"distila": "0.1.0", "quick": False, "settings": settings, "targets": {}}
        tuned = {"families": families, "averages": averages or {}}
        return BenchmarkResults.model_validate({**facts, "globally_tuned": tuned, **changes})

    return made
