"""The trickle command."""
