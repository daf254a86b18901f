//! Code over virtual registers: what the builder writes and the register allocator reads.
//!
//! Nothing here chooses machine registers.

use std::fmt;

use crate::bpf::module::{Line, Parameter};
use crate::bpf::{AluOp, AtomicOp, Helper, Insn, Operand, Reg, Register, Width};

/// A virtual register, or a machine register where the calling convention wants that very one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VReg(pub(crate) u32);

/// Machine registers come first in the numbering of virtual ones.
pub(crate) const PINNED: u32 = 11;

impl VReg {
    /// The frame pointer.
    pub const FP: Self = Self(10);

    /// This machine register.
    #[must_use]
    pub const fn pinned(reg: Reg) -> Self {
        Self(reg.0 as u32)
    }

    /// The machine register that this one is pinned to.
    #[must_use]
    pub fn machine(self) -> Option<Reg> {
        u8::try_from(self.0).ok().filter(|&number| u32::from(number) < PINNED).map(Reg)
    }

    /// Index into tables over all registers of a function.
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

impl Register for VReg {
    fn write(self, width: Width, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.machine(), width) {
            (Some(register), _) => register.write(width, f),
            (None, Width::W64) => write!(f, "v{}", self.0),
            (None, Width::W32) => write!(f, "v{}.w", self.0),
        }
    }
}

/// Limits of a function's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameLimit {
    /// Calls nothing of the module: the whole stack of 512 bytes (`MAX_BPF_STACK`).
    Leaf,
    /// Calls functions of the module, none of which reaches a tail call. Frames add up and are rounded to
    /// 32 bytes before 6.12, so a callee keeps 32.
    Calls,
    /// Calls a function that reaches a tail call: the kernel allows less than 256 bytes before it, after
    /// rounding to 32.
    ReachesTailCall,
    /// A function that is itself called, and takes what the caller's limit leaves.
    Callee,
    /// What a plan for a chain of calls gives this function, in bytes: the frames of a chain, each rounded up
    /// to 32 bytes, share 512.
    Share(u32),
}

impl FrameLimit {
    /// Bytes of stack that the function may use.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        match self {
            Self::Leaf => 512,
            Self::Calls => 480,
            Self::ReachesTailCall => 224,
            Self::Callee => 32,
            Self::Share(bytes) => bytes,
        }
    }
}

/// Where a step of rewritten code comes from; the checker re-executes along it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Step of the original code, by its position there.
    Original(usize),
    /// Loads a spilled register from its slot.
    Reload { register: VReg, slot: i16 },
    /// Stores a spilled register to its slot.
    Spill { register: VReg, slot: i16 },
    /// Computes a constant again instead of keeping it.
    Again { register: VReg },
}

/// One instruction with what its encoding does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) insn: Insn<VReg>,
    /// Index into [`VirtualCode::lines`].
    pub(crate) line: u32,
    /// Arguments of a call, passed in `r1` and following.
    pub(crate) arguments: u8,
    pub(crate) source: Source,
}

/// A function over virtual registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualCode {
    pub(crate) name: String,
    pub(crate) section: String,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) steps: Vec<Step>,
    pub(crate) lines: Vec<Line>,
    /// Registers used so far, the pinned ones included.
    pub(crate) registers: u32,
    /// Bytes of stack that the builder handed out.
    pub(crate) stack: u32,
}

/// How an instruction touches a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Use,
    Define,
    /// Reads and writes: the two-address form.
    Both,
}

impl Role {
    pub(crate) const fn reads(self) -> bool {
        matches!(self, Self::Use | Self::Both)
    }

    pub(crate) const fn writes(self) -> bool {
        matches!(self, Self::Define | Self::Both)
    }
}

/// Rewrites every register an instruction names, in a fixed order, telling each one's role.
pub(crate) fn rename<R: Copy, S>(insn: &Insn<R>, mut f: impl FnMut(R, Role) -> S) -> Insn<S> {
    let operand = |o: Operand<R>, f: &mut dyn FnMut(R, Role) -> S| match o {
        Operand::Reg(r) => Operand::Reg(f(r, Role::Use)),
        Operand::Imm(value) => Operand::Imm(value),
    };
    match insn {
        Insn::Alu { width, op, dst, src } => {
            let role = if *op == AluOp::Mov { Role::Define } else { Role::Both };
            let src = operand(*src, &mut f);
            Insn::Alu { width: *width, op: *op, dst: f(*dst, role), src }
        }
        Insn::Neg { width, dst } => Insn::Neg { width: *width, dst: f(*dst, Role::Both) },
        Insn::ToBigEndian { bits, dst } => Insn::ToBigEndian { bits: *bits, dst: f(*dst, Role::Both) },
        Insn::LoadImm64 { dst, value } => {
            Insn::LoadImm64 { dst: f(*dst, Role::Define), value: value.clone() }
        }
        Insn::Load { size, dst, base, offset } => {
            let base = f(*base, Role::Use);
            Insn::Load { size: *size, dst: f(*dst, Role::Define), base, offset: *offset }
        }
        Insn::Store { size, base, offset, src } => {
            let base = f(*base, Role::Use);
            Insn::Store { size: *size, base, offset: *offset, src: operand(*src, &mut f) }
        }
        Insn::Atomic { size, op, base, offset, src } => {
            let base = f(*base, Role::Use);
            Insn::Atomic { size: *size, op: *op, base, offset: *offset, src: f(*src, atomic_role(*op)) }
        }
        Insn::Label(label) => Insn::Label(*label),
        Insn::Goto { target } => Insn::Goto { target: *target },
        Insn::Jump { width, cond, left, right, target } => {
            let left = f(*left, Role::Use);
            let right = operand(*right, &mut f);
            Insn::Jump { width: *width, cond: *cond, left, right, target: *target }
        }
        Insn::Call { helper } => Insn::Call { helper: *helper },
        Insn::CallFunction { function } => Insn::CallFunction { function: function.clone() },
        Insn::Exit => Insn::Exit,
    }
}

const fn atomic_role(op: AtomicOp) -> Role {
    match op {
        AtomicOp::Add | AtomicOp::Or | AtomicOp::And | AtomicOp::Xor | AtomicOp::CmpXchg => Role::Use,
        AtomicOp::FetchAdd | AtomicOp::FetchOr | AtomicOp::FetchAnd | AtomicOp::FetchXor | AtomicOp::Xchg => {
            Role::Both
        }
    }
}

impl Step {
    /// Registers that are read, the implicit ones included.
    pub(crate) fn uses(&self) -> Vec<VReg> {
        let mut found = Vec::new();
        rename(&self.insn, |r, role| {
            if role.reads() {
                found.push(r);
            }
        });
        match &self.insn {
            Insn::Call { .. } | Insn::CallFunction { .. } => {
                found.extend((1..=u32::from(self.arguments)).map(VReg));
            }
            Insn::Exit | Insn::Atomic { op: AtomicOp::CmpXchg, .. } => found.push(VReg(0)),
            Insn::Alu { .. }
            | Insn::Neg { .. }
            | Insn::ToBigEndian { .. }
            | Insn::LoadImm64 { .. }
            | Insn::Load { .. }
            | Insn::Store { .. }
            | Insn::Atomic { .. }
            | Insn::Label(_)
            | Insn::Goto { .. }
            | Insn::Jump { .. } => {}
        }
        found
    }

    /// Registers whose old value is gone afterwards: written ones, and those that a call clobbers.
    pub(crate) fn kills(&self) -> Vec<VReg> {
        let mut found = Vec::new();
        rename(&self.insn, |r, role| {
            if role.writes() {
                found.push(r);
            }
        });
        if self.is_call() {
            found.extend((0..=5).map(VReg));
        } else if matches!(self.insn, Insn::Atomic { op: AtomicOp::CmpXchg, .. }) {
            found.push(VReg(0));
        }
        found
    }

    pub(crate) const fn is_call(&self) -> bool {
        matches!(self.insn, Insn::Call { .. } | Insn::CallFunction { .. })
    }

    /// Destination and source of a full-width register copy.
    pub(crate) fn copy(&self) -> Option<(VReg, VReg)> {
        let Insn::Alu { width: Width::W64, op: AluOp::Mov, dst, src: Operand::Reg(src) } = self.insn else {
            return None;
        };
        Some((dst, src))
    }

    /// Whether control never reaches the next step.
    pub(crate) const fn ends_path(&self) -> bool {
        matches!(self.insn, Insn::Goto { .. } | Insn::Exit)
    }
}

/// Number of arguments of a helper, from its declaration in `include/uapi/linux/bpf.h`.
pub(crate) const fn helper_arguments(helper: Helper) -> usize {
    match helper {
        Helper::KtimeGetNs | Helper::GetSmpProcessorId | Helper::Jiffies64 => 0,
        Helper::XdpGetBuffLen => 1,
        Helper::MapLookup | Helper::MapDelete | Helper::SkbPullData => 2,
        Helper::TailCall => 3,
        Helper::MapUpdate | Helper::RingbufOutput | Helper::SkbLoadBytes | Helper::XdpLoadBytes => 4,
    }
}
