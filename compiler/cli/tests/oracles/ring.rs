//! Reads the kernel's ring buffer of events by the layout of `kernel/bpf/ringbuf.c`: a page with the consumer's
//! position, a page with the producer's, then the data twice in a row, so that no record is torn by the end.

#![expect(unsafe_code, reason = "memory that is shared with the kernel has no safe interface")]

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::{AtomicU64, Ordering};

use nnbpf_compiler::lower::packet::maps::EVENT_BYTES;
use nnbpf_runtime_loader::Map;

const PAGE: usize = 4096;
const DATA: usize = EVENT_BYTES as usize;
/// `BPF_RINGBUF_HDR_SZ`: length and page offset in front of each record.
const HEADER: usize = 8;
/// `BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT`.
const NOT_A_RECORD: u32 = 3 << 30;

/// A mapped ring buffer. Only one thread reads it, after the program that writes it has returned.
pub(crate) struct Ring {
    consumer: *mut u8,
    producer: *mut u8,
}

// SAFETY: the pointers are to shared mappings that are valid in every thread of the process.
unsafe impl Send for Ring {}

fn mapping(map: &Map, length: usize, access: i32, offset: usize) -> *mut u8 {
    let offset = i64::try_from(offset).unwrap();
    // SAFETY: a fresh mapping of a descriptor that is open; the kernel checks length and offset.
    let place = unsafe {
        libc::mmap(std::ptr::null_mut(), length, access, libc::MAP_SHARED, map.as_fd().as_raw_fd(), offset)
    };
    assert_ne!(place, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
    place.cast()
}

impl Ring {
    pub(crate) fn new(map: &Map) -> Self {
        let consumer = mapping(map, PAGE, libc::PROT_READ | libc::PROT_WRITE, 0);
        let producer = mapping(map, PAGE + 2 * DATA, libc::PROT_READ, PAGE);
        Self { consumer, producer }
    }

    /// Takes all records.
    pub(crate) fn records(&mut self) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        // SAFETY: both positions are aligned 64-bit words at the start of mapped pages.
        let (consumed, produced) =
            unsafe { (&*self.consumer.cast::<AtomicU64>(), &*self.producer.cast::<AtomicU64>()) };
        let mut at = consumed.load(Ordering::Acquire);
        while at < produced.load(Ordering::Acquire) {
            let offset = usize::try_from(at).unwrap() % DATA;
            // SAFETY: the header and the record behind it lie within the doubled data pages, and the producer
            // does not touch them before the consumer's position has passed them.
            let record = unsafe {
                let header = self.producer.add(PAGE + offset);
                let length = header.cast::<u32>().read_volatile();
                assert_eq!(length & NOT_A_RECORD, 0, "a record that was never finished");
                std::slice::from_raw_parts(header.add(HEADER), length as usize)
            };
            at += (HEADER + record.len()).next_multiple_of(8) as u64;
            records.push(record.to_vec());
        }
        consumed.store(at, Ordering::Release);
        records
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: nothing refers to the two mappings any more.
        unsafe {
            libc::munmap(self.consumer.cast(), PAGE);
            libc::munmap(self.producer.cast(), PAGE + 2 * DATA);
        }
    }
}
