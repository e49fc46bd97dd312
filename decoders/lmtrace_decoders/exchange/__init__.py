"""Captures in the exchange format: TLPs as rows of Parquet, CSV or JSON lines."""
