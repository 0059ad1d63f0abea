"""Makes a network of either kind from a configuration."""

from distila.training.network.config import NetworkConfig
from distila.training.network.filters import PolicyNetwork
from distila.training.network.network import Network
from distila.training.network.recurrent import RecurrentNetwork


def make_network(config: NetworkConfig) -> Network:
    """Make a network with initial weights, of the kind that the configuration's ``memory`` names."""
    return RecurrentNetwork(config) if config.memory == "gru" else PolicyNetwork(config)
