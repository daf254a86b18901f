//! One change to one function: what is changed, and how.

use nnbpf_compiler::bpf::assemble::assemble;
use nnbpf_compiler::bpf::decode::disassemble;
use nnbpf_compiler::bpf::module::Function;
use nnbpf_compiler::bpf::{AluOp, Cond, Imm64, Insn, Label, Operand, Reg, Size, Width};

/// What was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Shift,
    Mask,
    /// A constant of arithmetic: weights of constants, sizes, offsets of pointers.
    Constant,
    /// A number that is compared with: bounds of loops among others.
    Bound,
    Register,
    /// Offset of a load or store: the place of a weight, a value, a feature.
    Offset,
    /// Width of a load or store.
    Access,
    /// A wide constant, or an offset into a section.
    Wide,
    Operation,
    Condition,
    Target,
    Dropped,
    Swapped,
    Doubled,
    /// A parameter in one slot or in all of them.
    Parameter,
    /// The same, with hash and certificate repaired: told apart by its model only.
    Retrained,
    Metadata,
}

impl Kind {
    pub(super) const ALL: [Self; 17] = [
        Self::Shift,
        Self::Mask,
        Self::Constant,
        Self::Bound,
        Self::Register,
        Self::Offset,
        Self::Access,
        Self::Wide,
        Self::Operation,
        Self::Condition,
        Self::Target,
        Self::Dropped,
        Self::Swapped,
        Self::Doubled,
        Self::Parameter,
        Self::Retrained,
        Self::Metadata,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Shift => "shift",
            Self::Mask => "mask",
            Self::Constant => "constant",
            Self::Bound => "bound of a comparison",
            Self::Register => "register",
            Self::Offset => "offset of an access",
            Self::Access => "width of an access",
            Self::Wide => "wide constant or section",
            Self::Operation => "operation",
            Self::Condition => "condition",
            Self::Target => "jump target",
            Self::Dropped => "dropped instruction",
            Self::Swapped => "swapped instructions",
            Self::Doubled => "doubled instruction",
            Self::Parameter => "parameter",
            Self::Retrained => "parameter, hashes repaired",
            Self::Metadata => "number in the metadata",
        }
    }
}

/// Pseudo-random numbers (SplitMix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..limit`; 0 for no limit.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % (limit.max(1) as u64)).unwrap_or(0)
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        of.get(self.below(of.len())).copied()
    }
}

/// A changed function as it would stand in an object, and what was changed. `None` when the draw changed nothing or
/// has no encoding.
pub(super) fn mutant(function: &Function, random: &mut Random) -> Option<(Kind, Function)> {
    let mut code = function.code.clone();
    let mut line_of = function.line_of.clone();
    let at = random.below(code.len());
    if matches!(code.get(at)?, Insn::Label(_)) {
        return None;
    }
    let labels: Vec<Label> = code
        .iter()
        .filter_map(|insn| if let Insn::Label(label) = insn { Some(*label) } else { None })
        .collect();
    let kind = match random.below(8) {
        0 => {
            code.remove(at);
            line_of.remove(at);
            Kind::Dropped
        }
        1 => {
            if matches!(code.get(at + 1)?, Insn::Label(_)) {
                return None;
            }
            code.swap(at, at + 1);
            Kind::Swapped
        }
        2 if random.below(3) == 0 => {
            let (again, line) = (code.get(at)?.clone(), *line_of.get(at)?);
            code.insert(at, again);
            line_of.insert(at, line);
            Kind::Doubled
        }
        _ => changed(code.get_mut(at)?, &labels, random)?,
    };
    let mutant = Function { code, line_of, ..function.clone() };
    let assembled = assemble(&mutant).ok()?;
    let code = disassemble(&assembled.bytes, &assembled.relocations).ok()?;
    let line_of = vec![0; code.len()];
    let same = code == function.code;
    (!same).then_some((kind, Function { code, line_of, ..mutant }))
}

/// Changes one field of one instruction.
fn changed(insn: &mut Insn<Reg>, labels: &[Label], random: &mut Random) -> Option<Kind> {
    let choice = random.below(3);
    Some(match insn {
        Insn::Alu { width, op, dst, src } => match (choice, src) {
            (0, Operand::Imm(value)) => {
                *value = number(*value, random);
                match op {
                    AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => Kind::Shift,
                    AluOp::And => Kind::Mask,
                    AluOp::Add
                    | AluOp::Sub
                    | AluOp::Mul
                    | AluOp::Div
                    | AluOp::Or
                    | AluOp::Mod
                    | AluOp::Xor
                    | AluOp::Mov => Kind::Constant,
                }
            }
            (0, Operand::Reg(from)) => {
                *from = register(random);
                Kind::Register
            }
            (1, _) => {
                *dst = register(random);
                Kind::Register
            }
            (_, _) => {
                if random.below(4) == 0 {
                    *width = if *width == Width::W64 { Width::W32 } else { Width::W64 };
                } else {
                    *op = random.pick(&OPERATIONS)?;
                }
                Kind::Operation
            }
        },
        Insn::Neg { dst, .. } | Insn::ToBigEndian { dst, .. } => {
            *dst = register(random);
            Kind::Register
        }
        Insn::LoadImm64 { dst, value } => match (choice, value) {
            (0, _) => {
                *dst = register(random);
                Kind::Register
            }
            (_, Imm64::Value(value)) => {
                *value ^= 1 << random.below(64);
                Kind::Wide
            }
            (_, Imm64::MapValue { offset, .. }) => {
                *offset = offset.wrapping_add_signed(random.pick(&[-16, -8, -4, -1, 1, 4, 8, 16, 64])?);
                Kind::Wide
            }
            (_, Imm64::Map(_)) => return None,
        },
        Insn::Load { size, dst, base, offset } => match choice {
            0 => {
                *offset = moved(*offset, random)?;
                Kind::Offset
            }
            1 => {
                *size = random.pick(&SIZES)?;
                Kind::Access
            }
            _ => {
                *if random.below(2) == 0 { dst } else { base } = register(random);
                Kind::Register
            }
        },
        Insn::Store { size, base, offset, src } => match (choice, src) {
            (0, _) => {
                *offset = moved(*offset, random)?;
                Kind::Offset
            }
            (1, Operand::Imm(value)) => {
                *value = number(*value, random);
                Kind::Constant
            }
            (1, Operand::Reg(from)) => {
                *from = register(random);
                Kind::Register
            }
            (_, _) => {
                if random.below(2) == 0 {
                    *size = random.pick(&SIZES)?;
                    Kind::Access
                } else {
                    *base = register(random);
                    Kind::Register
                }
            }
        },
        Insn::Atomic { base, offset, src, .. } => match choice {
            0 => {
                *offset = moved(*offset, random)?;
                Kind::Offset
            }
            1 => {
                *src = register(random);
                Kind::Register
            }
            _ => {
                *base = register(random);
                Kind::Register
            }
        },
        Insn::Goto { target } => {
            *target = random.pick(labels)?;
            Kind::Target
        }
        Insn::Jump { width, cond, left, right, target } => match (random.below(5), right) {
            (0, Operand::Imm(value)) => {
                *value = number(*value, random);
                Kind::Bound
            }
            (0, Operand::Reg(other)) => {
                *other = register(random);
                Kind::Register
            }
            (1, _) => {
                *left = register(random);
                Kind::Register
            }
            (2, _) => {
                *target = random.pick(labels)?;
                Kind::Target
            }
            (3, _) => {
                *width = if *width == Width::W64 { Width::W32 } else { Width::W64 };
                Kind::Condition
            }
            (_, _) => {
                *cond = random.pick(&CONDITIONS)?;
                Kind::Condition
            }
        },
        Insn::Label(_) | Insn::Call { .. } | Insn::CallFunction { .. } | Insn::Exit => return None,
    })
}

const SIZES: [Size; 4] = [Size::B, Size::H, Size::W, Size::DW];
const OPERATIONS: [AluOp; 12] = [
    AluOp::Add,
    AluOp::Sub,
    AluOp::Mul,
    AluOp::Div,
    AluOp::Or,
    AluOp::And,
    AluOp::Lsh,
    AluOp::Rsh,
    AluOp::Mod,
    AluOp::Xor,
    AluOp::Mov,
    AluOp::Arsh,
];
const CONDITIONS: [Cond; 11] = [
    Cond::Eq,
    Cond::Ne,
    Cond::Gt,
    Cond::Ge,
    Cond::Lt,
    Cond::Le,
    Cond::Set,
    Cond::Sgt,
    Cond::Sge,
    Cond::Slt,
    Cond::Sle,
];

fn register(random: &mut Random) -> Reg {
    Reg(u8::try_from(random.below(10)).unwrap_or(0))
}

/// A neighbour, another bit, or something else altogether.
fn number(value: i32, random: &mut Random) -> i32 {
    match random.below(4) {
        0 => value.wrapping_add(1),
        1 => value.wrapping_sub(1),
        2 => value ^ (1 << random.below(32)),
        _ => random.next() as i32,
    }
}

fn moved(offset: i16, random: &mut Random) -> Option<i16> {
    Some(offset.wrapping_add(random.pick(&[-64, -16, -8, -4, -2, -1, 1, 2, 4, 8, 16, 64])?))
}
