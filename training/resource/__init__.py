"""SINR optimisation: interference channels, classical algorithms that set their powers, students that learn from both.

The problem is the weighted sum rate of K links that share a band; WMMSE and FPLinQ teach multilayer perceptrons and
graph networks through the same loss as in link adaptation (`distila.training.learning.algorithm`), after arXiv
2308.07511.
"""
