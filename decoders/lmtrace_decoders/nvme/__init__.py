"""From TLPs to NVMe commands with their children."""
