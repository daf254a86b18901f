//! Guest memory: regions that pointers name, every access checked.
//!
//! A pointer is a plain `u64`: 16 bits of region and 48 bits of place inside it. Regions of several elements
//! (stack frames, map values) space their elements by a power of two at least twice an element's size, so
//! arithmetic that leaves an element faults instead of reaching its neighbour. Region 0 holds the null pointer
//! and never exists.

use super::error::Fault;

/// Bits of the place inside a region.
const PLACE_BITS: u32 = 48;

/// Pointers to maps, which only helpers take, have region numbers from here.
const MAP_HANDLES: u64 = 0x8000;

/// What uninitialised registers and stack bytes hold: no address, no small number.
pub(super) const POISON: u64 = 0xa5a5_a5a5_a5a5_a5a5;

/// Number of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RegionId(pub(super) u16);

/// The program's context; its fields are computed, so the region has no bytes.
pub(super) const CONTEXT: RegionId = RegionId(1);
/// Stack frames, one element each.
pub(super) const STACK: RegionId = RegionId(2);
/// The packet of the current run.
pub(super) const PACKET: RegionId = RegionId(3);

#[derive(Debug)]
struct Region {
    bytes: Vec<u8>,
    /// Bytes that may be accessed in each element.
    element: u64,
    /// Bytes from one element to the next in `bytes`.
    stride: u64,
    /// Binary logarithm of the distance of elements in the address space.
    shift: u32,
    writable: bool,
}

/// All regions.
#[derive(Debug)]
pub(super) struct Memory {
    regions: Vec<Region>,
}

impl Memory {
    /// Memory with the regions that every program has; `frames` stack frames of `frame_bytes` each.
    pub(super) fn new(frames: u32, frame_bytes: u32) -> Self {
        let empty =
            || Region { bytes: Vec::new(), element: 0, stride: 0, shift: PLACE_BITS, writable: false };
        let mut memory = Self { regions: vec![empty(), empty()] };
        let stack = memory.add(frame_bytes, frames, true);
        debug_assert_eq!(stack, Some(STACK));
        memory.regions.push(Region { writable: true, ..empty() });
        memory
    }

    /// Adds a region of `count` zeroed elements; `None` when addresses or memory would not suffice.
    pub(super) fn add(&mut self, element: u32, count: u32, writable: bool) -> Option<RegionId> {
        let id = u16::try_from(self.regions.len()).ok().filter(|&id| u64::from(id) < MAP_HANDLES)?;
        let stride = u64::from(element).next_multiple_of(8);
        let shift = (stride * 2).next_power_of_two().trailing_zeros().max(SPACING_BITS);
        let bytes = stride.checked_mul(u64::from(count)).filter(|&bytes| bytes <= MAX_REGION_BYTES)?;
        if (u64::from(count) << shift) >> PLACE_BITS != 0 {
            return None;
        }
        let bytes = vec![0; usize::try_from(bytes).ok()?];
        self.regions.push(Region { bytes, element: u64::from(element), stride, shift, writable });
        Some(RegionId(id))
    }

    /// The address of a byte of an element.
    pub(super) fn address(&self, region: RegionId, element: u32, inner: u32) -> u64 {
        let shift = self.regions.get(usize::from(region.0)).map_or(0, |region| region.shift);
        u64::from(region.0) << PLACE_BITS | u64::from(element).unbounded_shl(shift) | u64::from(inner)
    }

    /// Exchanges the packet for a run, without copying.
    pub(super) fn swap_packet(&mut self, packet: &mut Vec<u8>) {
        if let Some(region) = self.regions.get_mut(usize::from(PACKET.0)) {
            std::mem::swap(&mut region.bytes, packet);
            region.element = region.bytes.len() as u64;
        }
    }

    /// Bytes of the current packet.
    pub(super) fn packet_len(&self) -> u32 {
        let len = self.regions.get(usize::from(PACKET.0)).map_or(0, |region| region.bytes.len());
        u32::try_from(len).unwrap_or(u32::MAX)
    }

    /// Fills a stack frame with poison, so that reading what was not written shows.
    pub(super) fn poison_frame(&mut self, frame: u32) {
        if let Some(bytes) = self.element_mut(STACK, frame) {
            bytes.fill(POISON as u8);
        }
    }

    /// Reads `N` bytes.
    #[inline(always)]
    pub(super) fn load<const N: usize>(&self, address: u64) -> Result<[u8; N], Fault> {
        self.bytes(address, N as u64)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(Fault::BadRead { address, bytes: N as u64 })
    }

    /// Writes `N` bytes.
    #[inline(always)]
    pub(super) fn store<const N: usize>(&mut self, address: u64, value: [u8; N]) -> Result<(), Fault> {
        match self.bytes_mut(address, N as u64) {
            Some(bytes) => {
                bytes.copy_from_slice(&value);
                Ok(())
            }
            None => Err(Fault::BadWrite { address, bytes: N as u64 }),
        }
    }

    /// A range for helpers to read.
    pub(super) fn read(&self, address: u64, bytes: u64) -> Result<&[u8], Fault> {
        self.bytes(address, bytes).ok_or(Fault::BadRead { address, bytes })
    }

    /// Writes what a helper gives.
    pub(super) fn fill(&mut self, address: u64, bytes: u64, content: &[u8]) -> Result<(), Fault> {
        match self.bytes_mut(address, bytes) {
            Some(place) if place.len() == content.len() => {
                place.copy_from_slice(content);
                Ok(())
            }
            Some(_) | None => Err(Fault::BadWrite { address, bytes }),
        }
    }

    /// All of an element, for the host.
    pub(super) fn element(&self, region: RegionId, element: u32) -> Option<&[u8]> {
        let region = self.regions.get(usize::from(region.0))?;
        let start = u64::from(element) * region.stride;
        region.bytes.get(range(start, region.element)?)
    }

    /// All of an element, for the host, which may also write what programs may not.
    pub(super) fn element_mut(&mut self, region: RegionId, element: u32) -> Option<&mut [u8]> {
        let region = self.regions.get_mut(usize::from(region.0))?;
        let start = u64::from(element) * region.stride;
        region.bytes.get_mut(range(start, region.element)?)
    }

    #[inline(always)]
    fn bytes(&self, address: u64, bytes: u64) -> Option<&[u8]> {
        let region = self.regions.get((address >> PLACE_BITS) as usize)?;
        region.bytes.get(region.range(address, bytes)?)
    }

    #[inline(always)]
    fn bytes_mut(&mut self, address: u64, bytes: u64) -> Option<&mut [u8]> {
        let region = self.regions.get_mut((address >> PLACE_BITS) as usize)?;
        let range = region.range(address, bytes)?;
        if region.writable { region.bytes.get_mut(range) } else { None }
    }
}

impl Region {
    #[inline(always)]
    fn range(&self, address: u64, bytes: u64) -> Option<std::ops::Range<usize>> {
        let place = address & PLACE_MASK;
        let inner = place & ((1 << self.shift) - 1);
        // `inner` is below 2^48, so the sum cannot wrap for any size that fits a helper argument of 32 bits.
        if bytes > u64::from(u32::MAX) || inner + bytes > self.element {
            return None;
        }
        range((place >> self.shift) * self.stride + inner, bytes)
    }
}

/// Least distance of elements: more than a 16-bit offset spans, so that none reaches a neighbour.
const SPACING_BITS: u32 = 17;

const PLACE_MASK: u64 = (1 << PLACE_BITS) - 1;

/// Larger maps are refused rather than swapped.
const MAX_REGION_BYTES: u64 = 1 << 32;

#[inline(always)]
fn range(start: u64, bytes: u64) -> Option<std::ops::Range<usize>> {
    let start = usize::try_from(start).ok()?;
    Some(start..start + usize::try_from(bytes).ok()?)
}

/// The value that a map has as a pointer.
pub(super) fn map_handle(map: usize) -> u64 {
    (MAP_HANDLES + map as u64) << PLACE_BITS
}

/// The map behind a pointer, if it is one to a map.
pub(super) fn map_of_handle(address: u64) -> Option<usize> {
    let map = (address >> PLACE_BITS).checked_sub(MAP_HANDLES)?;
    if address & PLACE_MASK == 0 { usize::try_from(map).ok() } else { None }
}

/// The region of an address.
pub(super) fn is_in(address: u64, region: RegionId) -> bool {
    address >> PLACE_BITS == u64::from(region.0)
}

/// Bytes from the start of a region of one element.
pub(super) fn place(address: u64) -> u64 {
    address & PLACE_MASK
}
