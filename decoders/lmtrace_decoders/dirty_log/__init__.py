"""The log of user data changes against the commands that changed user data (NVM Command Set 1.2, 4.1.8 and 5.6)."""
