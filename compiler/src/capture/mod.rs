//! Captures: pcap and pcapng bytes to packets with nanosecond time stamps.
