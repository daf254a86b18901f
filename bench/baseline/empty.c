/* Baseline (d): programs that do nothing, what every measured time is less of. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp") int pass(struct xdp_md *context)
{
	return XDP_PASS;
}

SEC("xdp") int drop(struct xdp_md *context)
{
	return XDP_DROP;
}

char program_license[] SEC("license") = "GPL";
