"""The policy's neural network: features, memory and scores in one module, and its export as a policy bundle."""
