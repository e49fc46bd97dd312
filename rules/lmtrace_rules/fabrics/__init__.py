"""Rules of NVMe over fabrics: Fabrics commands, NVMe/TCP, NVMe/RDMA (nvme-checklist G28, G29, G30)."""
