"""Rollouts offline: whole ones on a replayed trace, thousands on KPIs drawn from replays, and the report of either."""
