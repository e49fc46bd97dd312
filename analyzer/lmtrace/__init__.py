"""lmtrace judges NVMe live migrations from captures."""
