"""The trickle SDK for Trio: frames in, the user's function, frames out; everything else is ours."""
