"""What people read: one file per format, all printed from a run's tables through `content`."""
