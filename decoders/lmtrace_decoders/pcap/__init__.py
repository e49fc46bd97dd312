"""pcap and pcapng captures: packets in a file, TLPs in packets."""
