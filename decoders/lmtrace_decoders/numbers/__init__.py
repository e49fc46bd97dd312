"""What a migration took: phases, blackout, pre-copy rounds, bytes, commands in flight; from tables alone."""
