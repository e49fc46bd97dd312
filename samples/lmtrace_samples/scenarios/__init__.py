"""The scenarios: scripts of what a host does, one file for each subject."""
