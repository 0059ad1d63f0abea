"""Interfaces to the near-RT RIC platform: subscriptions, registration, A1, SDL, alarms, probes, metrics.

They run on threads of their own, never on the decision loop's.
"""
