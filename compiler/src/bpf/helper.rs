//! Helper functions: their numbers and names. What they do is the virtual machine's and the kernel's affair.

use super::Helper;

/// One helper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    helper: Helper,
    number: u32,
    name: &'static str,
}

/// Numbers from `___BPF_FUNC_MAPPER` in `include/uapi/linux/bpf.h`; they never change.
static HELPERS: &[Entry] = &[
    entry(Helper::MapLookup, 1, "bpf_map_lookup_elem"),
    entry(Helper::MapUpdate, 2, "bpf_map_update_elem"),
    entry(Helper::MapDelete, 3, "bpf_map_delete_elem"),
    entry(Helper::KtimeGetNs, 5, "bpf_ktime_get_ns"),
    entry(Helper::GetSmpProcessorId, 8, "bpf_get_smp_processor_id"),
    entry(Helper::TailCall, 12, "bpf_tail_call"),
    entry(Helper::SkbLoadBytes, 26, "bpf_skb_load_bytes"),
    entry(Helper::SkbPullData, 39, "bpf_skb_pull_data"),
    entry(Helper::Jiffies64, 118, "bpf_jiffies64"),
    entry(Helper::RingbufOutput, 130, "bpf_ringbuf_output"),
    entry(Helper::XdpGetBuffLen, 188, "bpf_xdp_get_buff_len"),
    entry(Helper::XdpLoadBytes, 189, "bpf_xdp_load_bytes"),
];

const fn entry(helper: Helper, number: u32, name: &'static str) -> Entry {
    Entry { helper, number, name }
}

impl Helper {
    /// All helpers that generated code uses, by number.
    pub fn all() -> impl Iterator<Item = Self> {
        HELPERS.iter().map(|entry| entry.helper)
    }

    /// The number in the call's immediate field.
    #[must_use]
    pub fn number(self) -> u32 {
        self.entry().number
    }

    /// The name in the kernel's documentation.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// The helper behind a number, if generated code uses it.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        HELPERS.iter().find(|entry| entry.number == number).map(|entry| entry.helper)
    }

    fn entry(self) -> &'static Entry {
        HELPERS.iter().find(|entry| entry.helper == self).expect("every helper has an entry; tested")
    }
}
