"""The rules of PCI Express that every TLP answers by itself, as column rules."""
