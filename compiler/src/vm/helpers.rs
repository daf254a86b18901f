//! What helper calls do: argument registers in, `r0` out, or control elsewhere.

use super::context::Context;
use super::error::Fault;
use super::machine::{After, Machine};
use super::memory::{CONTEXT, PACKET, is_in, map_of_handle, place};
use crate::bpf::Helper;
use crate::bpf::limits::TAIL_CALLS;

/// Nanoseconds of a tick with `CONFIG_HZ=250`.
const TICK_NS: u64 = 4_000_000;

/// The tick at which the clock is 0: `INITIAL_JIFFIES` in `include/linux/jiffies.h`, of 250 ticks a second.
const FIRST_TICK: u64 = (1 << 32) - 300 * 250;

/// Performs a helper call.
pub(super) fn call(machine: &mut Machine<'_>, helper: Helper) -> Result<After, Fault> {
    let argument = |number| machine.registers.get(number);
    let (r1, r2, r3, r4) = (argument(1), argument(2), argument(3), argument(4));
    let refused = Fault::BadArgument { helper };
    let map_in = |register| map_of_handle(register).ok_or(refused);
    let signed = |value: Option<i64>| value.map(i64::cast_unsigned).ok_or(refused);
    let value = match helper {
        Helper::MapLookup => machine.maps.guest_lookup(map_in(r1)?, r2)?.ok_or(refused)?,
        Helper::MapUpdate => signed(machine.maps.guest_update(map_in(r1)?, r2, r3, r4)?)?,
        Helper::MapDelete => signed(machine.maps.guest_delete(map_in(r1)?, r2)?)?,
        Helper::KtimeGetNs => machine.clock_ns,
        Helper::Jiffies64 => FIRST_TICK.saturating_add(machine.clock_ns / TICK_NS),
        // There is one CPU.
        Helper::GetSmpProcessorId => 0,
        // The size argument of this helper is a constant-bounded 64-bit number.
        Helper::RingbufOutput => signed(machine.maps.guest_output(map_in(r1)?, r2, r3, r4)?)?,
        Helper::XdpGetBuffLen => {
            context(r1).ok_or(refused)?;
            u64::from(machine.maps.memory.packet_len())
        }
        Helper::SkbPullData => {
            context(r1).ok_or(refused)?;
            signed(pull(machine, r2))?
        }
        Helper::SkbLoadBytes => {
            context(r1).ok_or(refused)?;
            signed(load(machine, Context::SkBuff, (r2, r3, r4), LONGEST_SKB_OFFSET)?)?
        }
        Helper::XdpLoadBytes => {
            context(r1).ok_or(refused)?;
            signed(load(machine, Context::Xdp, (r2, r3, r4), LONGEST_XDP_OFFSET)?)?
        }
        Helper::TailCall => {
            context(r1).ok_or(refused)?;
            return tail_call(machine, map_in(r2)?, r3, r1).ok_or(refused);
        }
    };
    Ok(After::Return(value))
}

/// `bpf_tail_call`: the target takes over the current frame, so that its exit returns to the caller of the
/// function that made the call. Falls through when the slot is empty or the limit is reached. `None` when the map is
/// no program array.
fn tail_call(machine: &mut Machine<'_>, map: usize, index: u64, context: u64) -> Option<After> {
    let programs = machine.maps.programs_mut(map)?;
    // The kernel takes the low 32 bits of the index.
    let target = programs.get((index & 0xffff_ffff) as usize).copied().flatten();
    let placed = target.and_then(|target| machine.image.functions.get(target));
    match placed {
        Some(placed) if machine.tail_calls < TAIL_CALLS => {
            machine.tail_calls += 1;
            Some(After::Enter { start: placed.start, context })
        }
        // The verifier gives `r0` no value here.
        Some(_) | None => Some(After::Return(super::memory::POISON)),
    }
}

/// `bpf_skb_pull_data`: makes so many bytes linear, or all that are linear already with 0. `None` in a program
/// whose packets are no socket buffers.
fn pull(machine: &mut Machine<'_>, bytes: u64) -> Option<i64> {
    match machine.context {
        Context::Xdp => return None,
        Context::SkBuff => {}
    }
    // The kernel takes the low 32 bits of the length, and answers ENOMEM for more than there is.
    let bytes = (bytes & 0xffff_ffff) as u32;
    if bytes > machine.maps.memory.packet_len() {
        return Some(-12);
    }
    machine.skb.linear = machine.skb.linear.max(bytes);
    Some(0)
}

/// Offsets beyond are refused with `EFAULT`: `INT_MAX` in `bpf_skb_load_bytes`, 0xffff in `bpf_xdp_pointer`, both of
/// `net/core/filter.c`.
const LONGEST_SKB_OFFSET: u64 = 0x7fff_ffff;
const LONGEST_XDP_OFFSET: u64 = 0xffff;

/// `bpf_skb_load_bytes` and `bpf_xdp_load_bytes`: copies `(offset, to, bytes)` of the packet, wherever they lie.
/// Where they are not all there, the first gives zeros and the second changes nothing; both fail. `None` in a program
/// of another kind.
fn load(
    machine: &mut Machine<'_>,
    kind: Context,
    (offset, to, bytes): (u64, u64, u64),
    longest: u64,
) -> Result<Option<i64>, Fault> {
    if machine.context != kind {
        return Ok(None);
    }
    // The kernel takes the low 32 bits of both.
    let (offset, bytes) = (offset & 0xffff_ffff, bytes & 0xffff_ffff);
    let memory = &mut machine.maps.memory;
    let end = offset + bytes;
    if offset > longest || end > u64::from(memory.packet_len()) {
        if kind == Context::SkBuff {
            memory.fill(to, bytes, &vec![0; usize::try_from(bytes).unwrap_or(0)])?;
        }
        return Ok(Some(EFAULT));
    }
    let copied = memory.read(memory.address(PACKET, 0, 0) + offset, bytes)?.to_vec();
    memory.fill(to, bytes, &copied)?;
    Ok(Some(0))
}

/// `-EFAULT`.
const EFAULT: i64 = -14;

/// Whether a register holds the context pointer as it was given.
fn context(register: u64) -> Option<()> {
    (is_in(register, CONTEXT) && place(register) == 0).then_some(())
}
