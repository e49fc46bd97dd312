"""NVMe over fabrics: packets through tshark, PDUs of NVMe/TCP, messages of NVMe/RDMA, and the NVMe tables from them."""
