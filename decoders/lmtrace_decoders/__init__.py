"""Readers and decoders: from the bytes of a capture to tables."""
