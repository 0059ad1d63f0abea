"""Operator A/B rollout: a new policy on a few UEs first, rolled back by itself if it hurts, promoted if it is better.

A plan says who gets which policy and what counts as harm; assignment is sticky; what each arm does is counted from the
UEs' reports; confidence sequences turn counts into verdicts, and a state machine in a store turns verdicts into arms.
"""
