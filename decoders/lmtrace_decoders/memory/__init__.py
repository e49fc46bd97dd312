"""Memory tracking: what was asked for, what was reported, and what the tracked controller really wrote."""
