"""What the near-RT RIC platform asks of an xApp and offers it: subscriptions, registration, A1, SDL, alarms, probes.

All of it runs beside the decision loop, never on its thread.
"""
