//! Ring buffers: records wait for a consumer, and are refused while there is no room.

use crate::vm::error::MapError;

/// `BPF_RINGBUF_HDR_SZ` in `include/uapi/linux/bpf.h`.
const HEADER_BYTES: u64 = 8;

/// `BPF_RB_NO_WAKEUP | BPF_RB_FORCE_WAKEUP`.
const FLAGS: u64 = 3;

/// Smallest buffer that the kernel creates: a page.
const PAGE_BYTES: u32 = 4096;

/// A ring buffer.
#[derive(Debug)]
pub(super) struct Ring {
    records: Vec<Vec<u8>>,
    /// Bytes that the records take with headers and padding.
    used: u64,
    size: u64,
}

impl Ring {
    pub(super) fn new(size: u32) -> Result<Self, &'static str> {
        if size < PAGE_BYTES || !size.is_power_of_two() {
            return Err("a ring buffer is a power of two and at least a page");
        }
        Ok(Self { records: Vec::new(), used: 0, size: u64::from(size) })
    }

    /// As `__bpf_ringbuf_reserve` in `kernel/bpf/ringbuf.c`: the producer may not come round to the consumer.
    pub(super) fn output(&mut self, record: &[u8], flags: u64) -> Result<(), MapError> {
        if flags & !FLAGS != 0 {
            return Err(MapError::Invalid);
        }
        let needed = (record.len() as u64 + HEADER_BYTES).next_multiple_of(HEADER_BYTES);
        if self.used + needed > self.size - 1 {
            return Err(MapError::Again);
        }
        self.used += needed;
        self.records.push(record.to_vec());
        Ok(())
    }

    /// All waiting records, oldest first.
    pub(super) fn take(&mut self) -> Vec<Vec<u8>> {
        self.used = 0;
        std::mem::take(&mut self.records)
    }
}
