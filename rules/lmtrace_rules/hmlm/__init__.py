"""The rules of Host Managed Live Migration, by section of the checklist."""
