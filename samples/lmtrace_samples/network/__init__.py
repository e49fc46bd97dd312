"""NVMe over fabrics as a host and a controller play it, and the network that carries it."""
