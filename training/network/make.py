"""Networks of either kind from a configuration."""

from training.network.config import NetworkConfig
from training.network.filters import PolicyNetwork
from training.network.network import Network
from training.network.recurrent import RecurrentNetwork


def make_network(config: NetworkConfig) -> Network:
    """A network with first weights, of the kind that the configuration's ``memory`` names."""
    return RecurrentNetwork(config) if config.memory == "gru" else PolicyNetwork(config)
