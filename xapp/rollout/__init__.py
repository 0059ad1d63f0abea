"""A/B rollout: a new policy on a few UEs first, rolled back automatically if it does harm, promoted if it is better.

A plan names the policies, the stages and the margins of harm; each unit keeps its arm; KPIs of the arms are counted
from the UEs' reports; confidence sequences give verdicts, and a state machine in a store turns verdicts into stages.
"""
