"""The user's code and its rules. Knows no network and no codec."""
