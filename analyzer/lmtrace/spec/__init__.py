"""The numbers of the specifications: PCIe, NVMe and Host Managed Live Migration.

Pure facts: enumerations, field layouts and their section numbers. Nothing here reads a file or keeps state, so
what writes captures and what reads them can share it and still disagree about everything else.
"""
