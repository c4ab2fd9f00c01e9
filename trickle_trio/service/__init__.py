"""The outside: the control API, the dashboard, and serve()."""
