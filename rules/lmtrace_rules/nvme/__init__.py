"""The general rules of NVM Express that lmtrace judges for every command, as column rules."""
