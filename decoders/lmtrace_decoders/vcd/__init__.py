"""Value change dumps (IEEE 1364-2005, clause 18): header, byte scan, reader."""
