"""Rollouts offline: whole rollouts on a replayed trace, thousands of them on KPIs drawn from replays, and their report."""
