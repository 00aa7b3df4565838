"""Prefect servers, schedules, artifacts and events, and the Ray jobs of a flow run."""
