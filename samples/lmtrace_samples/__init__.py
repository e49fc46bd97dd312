"""Scenarios: executable models of host and NVM subsystem that play captures, with named faults."""
