//! Limits of the instruction set and of the kernel's verifier, each with where the kernel sets it.
//!
//! Numbers only; who checks them is elsewhere. Sources are paths in the Linux tree of version 6.18 unless
//! another version is named.

/// Bytes of one instruction slot: `struct bpf_insn` in `include/uapi/linux/bpf.h`.
pub const SLOT_BYTES: u32 = 8;

/// Registers that programs may name, the frame pointer included: `MAX_BPF_REG` in
/// `include/uapi/linux/bpf.h`.
pub const REGISTERS: u8 = 11;

/// Farthest forward jump in slots, counted from the following slot: `__s16 off` of `struct bpf_insn`.
pub const JUMP_FORWARD: i64 = i16::MAX as i64;

/// Farthest backward jump. The field could hold one more; keeping the range symmetric costs nothing.
pub const JUMP_BACKWARD: i64 = -(i16::MAX as i64);

/// Instructions that the verifier processes before it gives up: `BPF_COMPLEXITY_LIMIT_INSNS` in
/// `include/linux/bpf.h`, since 5.2.
pub const PROCESSED_INSTRUCTIONS: u64 = 1_000_000;

/// Slots of one program with all its subprograms: the same constant bounds `attr->insn_cnt` in
/// `bpf_prog_load`, `kernel/bpf/syscall.c`, for privileged loaders since 5.2.
pub const PROGRAM_SLOTS: u32 = 1_000_000;

/// Slots of one program before 5.2 and for unprivileged loaders: `BPF_MAXINSNS` in
/// `include/uapi/linux/bpf_common.h`.
pub const PROGRAM_SLOTS_BEFORE_5_2: u32 = 4096;

/// States waiting to be explored at one time: `BPF_COMPLEXITY_LIMIT_JMP_SEQ` in `kernel/bpf/verifier.c`,
/// since 5.2 (1024 before).
pub const PENDING_BRANCHES: u32 = 8192;

/// Bytes of stack of one frame, and of all frames of a call chain together: `MAX_BPF_STACK` in
/// `include/linux/filter.h`.
pub const STACK_BYTES: u32 = 512;

/// Each frame's stack is rounded up to this many bytes when depths are added:
/// `round_up_stack_depth` in `kernel/bpf/verifier.c` (16 with a JIT since 6.8, 32 before).
pub const STACK_ROUNDING: u32 = 32;

/// Stack that a frame may have used when a callee reaches a tail call: `check_max_stack_depth_subprog` in
/// `kernel/bpf/verifier.c`, since 5.10.
pub const STACK_BYTES_BEFORE_TAIL_CALL: u32 = 256;

/// Frames of one call chain, the main program included: `MAX_CALL_FRAMES` in
/// `include/linux/bpf_verifier.h`.
pub const CALL_FRAMES: usize = 8;

/// Subprograms of one program, the main program included: `BPF_MAX_SUBPROGS` in
/// `include/linux/bpf_verifier.h`.
pub const SUBPROGRAMS: usize = 256;

/// Maps that one program may refer to: `MAX_USED_MAPS` in `include/linux/bpf_verifier.h`.
pub const MAPS: usize = 64;

/// Tail calls of one run; the one that would be the next falls through: `MAX_TAIL_CALL_CNT` in
/// `include/linux/bpf.h` (33 in every JIT since 5.16).
pub const TAIL_CALLS: u32 = 33;

/// Bytes of one per-CPU map value: `PCPU_MIN_UNIT_SIZE` in `include/linux/percpu.h`.
pub const PER_CPU_VALUE_BYTES: u32 = 32 * 1024;

/// Bytes of a map key on the stack: `MAX_BPF_STACK` bounds `attr->key_size` in `kernel/bpf/hashtab.c`.
pub const KEY_BYTES: u32 = 512;

/// Bytes of a prefix in a longest-prefix-match trie: `LPM_DATA_SIZE_MAX` in `kernel/bpf/lpm_trie.c`.
pub const PREFIX_BYTES: u32 = 256;

/// Bytes of an object name in the kernel, the final zero included: `BPF_OBJ_NAME_LEN` in
/// `include/uapi/linux/bpf.h`.
pub const NAME_BYTES: usize = 16;
