"""The columns of the published flows that the two networks of the benchmark read, by the names of their features."""

# The file of the rows, and its columns: the name in the file, and the one in the specification.
DSN24 = "dsn24_nn_ebpf.csv.gz", {
    name: name
    for name in (
        "max_packet_length", "max_duration_ns", "min_packet_length", "dst_port", "header_length", "num_packet",
    )
}
CIC6 = "cicids2017_improved_train.csv.gz", {
    "Dst Port": "dst_port",
    "Total Fwd Packet": "fwd_packets",
    "Total Length of Fwd Packet": "fwd_bytes",
    "Fwd Packet Length Min": "fwd_len_min",
    "Fwd Packet Length Max": "fwd_len_max",
    "Fwd Packet Length Std": "fwd_len_std",
}
SETS = {"dsn24": DSN24, "cic6": CIC6}
