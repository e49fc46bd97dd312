"""The rules, one file per subject of a checklist, in checklist order."""
