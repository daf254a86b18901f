//! Programs that do one piece of work over and over.

use nnbpf_compiler::bpf::module::{Data, Function, Map, MapKind, Member, Module, Parameter, Struct, Type};
use nnbpf_compiler::bpf::{AtomicOp, Cond, Helper, Size};
use nnbpf_compiler::lower::LowerError;
use nnbpf_compiler::lower::builder::{Builder, StackSlot};
use nnbpf_compiler::lower::code::{FrameLimit, VReg};

/// The program.
pub(super) const PROGRAM: &str = "nn_price";

const VALUES: &str = ".data.nn_values";
const CALLEE: &str = "nn_callee";
const MAP: &str = "nn_map";
/// Entries of the measured map.
const ENTRIES: u32 = 16_384;

/// A piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pattern {
    /// Nothing: what the others are compared with.
    Empty,
    /// One instruction that needs the result of the one before.
    Chain,
    /// One instruction that needs nothing.
    Independent,
    MultiplyChain,
    Divide,
    Load,
    Store,
    /// A store, and a load of it: what values of the stack do.
    StoreLoad,
    AtomicAdd,
    FetchAdd,
    Exchange,
    CompareExchange,
    Jump,
    Function,
    Lookup {
        kind: MapKind,
        key: u32,
        found: bool,
    },
    Update {
        kind: MapKind,
        key: u32,
        value: u32,
    },
    /// Of a key that is not there.
    Delete,
    Clock,
    Event {
        bytes: u32,
    },
}

impl Pattern {
    /// Pieces of work in one run: as many as take longer than the clock's whole nanoseconds.
    pub(super) const fn pieces(self) -> u32 {
        match self {
            Self::Function
            | Self::Lookup { .. }
            | Self::Update { .. }
            | Self::Delete
            | Self::Clock
            | Self::Event { .. } => 32,
            Self::Empty
            | Self::Chain
            | Self::Independent
            | Self::MultiplyChain
            | Self::Divide
            | Self::Load
            | Self::Store
            | Self::StoreLoad
            | Self::AtomicAdd
            | Self::FetchAdd
            | Self::Exchange
            | Self::CompareExchange
            | Self::Jump => 512,
        }
    }
}

/// The module of a pattern; `pieces` 0 prepares everything and does nothing.
pub(super) fn module(pattern: Pattern, pieces: u32) -> Result<Module, LowerError> {
    let mut b = Builder::new(PROGRAM, "xdp", &[Parameter::Context]);
    let _context = b.parameter(0);
    let values = b.map_value(VALUES, 0);
    let key = b.stack_slot(48);
    for word in 0..6 {
        b.stack_store(Size::DW, key, word * 8, 0);
    }
    let first = b.load(Size::DW, values, 0);
    let second = b.load(Size::DW, values, 8);
    let done = b.label();
    for piece in 0..pieces {
        emit(&mut b, pattern, i16::try_from(piece).unwrap_or(0), values, key, (first, second), done);
    }
    b.bind(done);
    b.store(Size::DW, values, 512, first);
    b.ret(2);
    let main = b.finish(FrameLimit::Calls)?;
    Ok(Module {
        programs: vec![main],
        functions: if pattern == Pattern::Function { vec![callee()?] } else { Vec::new() },
        maps: map(pattern).into_iter().collect(),
        data: vec![Data {
            section: VALUES.to_owned(),
            variable: "nn_values".to_owned(),
            ty: Type::Array(Box::new(Type::Unsigned(8)), 128),
            bytes: [1_000_003_u64, 7].into_iter().chain([0; 126]).flat_map(u64::to_le_bytes).collect(),
            writable: true,
        }],
        metadata: Vec::new(),
    })
}

fn emit(
    b: &mut Builder,
    pattern: Pattern,
    piece: i16,
    values: VReg,
    key: StackSlot,
    (first, second): (VReg, VReg),
    done: nnbpf_compiler::bpf::Label,
) {
    let place = 16 + piece % 32 * 8;
    match pattern {
        Pattern::Empty => {}
        Pattern::Chain => b.add(first, second),
        Pattern::Independent => {
            let fresh = b.copy(second);
            b.stack_store(Size::B, key, 40, fresh);
        }
        Pattern::MultiplyChain => b.mul(first, second),
        Pattern::Divide => b.div(first, second),
        Pattern::Load => {
            let loaded = b.load(Size::DW, values, place);
            b.add(first, loaded);
        }
        Pattern::Store => b.store(Size::DW, values, place, second),
        Pattern::StoreLoad => {
            b.stack_store(Size::DW, key, 32, first);
            let loaded = b.stack_load(Size::DW, key, 32);
            b.mov(first, loaded);
        }
        Pattern::AtomicAdd => b.atomic(Size::DW, AtomicOp::Add, values, place, second),
        Pattern::FetchAdd => {
            let one = b.constant(1);
            b.atomic(Size::DW, AtomicOp::FetchAdd, values, place, one);
        }
        Pattern::Exchange => {
            let one = b.constant(1);
            b.atomic(Size::DW, AtomicOp::Xchg, values, place, one);
        }
        Pattern::CompareExchange => {
            b.compare_exchange(Size::DW, values, place, first, second);
        }
        Pattern::Jump => b.jump(Cond::Eq, first, i32::from(piece) + 17, done),
        Pattern::Function => {
            b.call_function(CALLEE, &[]);
        }
        Pattern::Lookup { found, .. } => {
            // Key 0 was put in by the caller; key 1 was not.
            b.stack_store(Size::W, key, 0, i32::from(!found));
            let map = b.map(MAP);
            let address = b.stack_address(key);
            b.call(Helper::MapLookup, &[map, address]);
        }
        Pattern::Update { .. } => {
            // A key that was never there: a counter.
            let counter = b.load(Size::DW, values, 8);
            b.add(counter, 1);
            b.store(Size::DW, values, 8, counter);
            b.stack_store(Size::DW, key, 0, counter);
            let map = b.map(MAP);
            let address = b.stack_address(key);
            let flags = b.constant(1);
            b.call(Helper::MapUpdate, &[map, address, values, flags]);
        }
        Pattern::Delete => {
            b.stack_store(Size::W, key, 0, 1);
            let map = b.map(MAP);
            let address = b.stack_address(key);
            b.call(Helper::MapDelete, &[map, address]);
        }
        Pattern::Clock => {
            b.call(Helper::KtimeGetNs, &[]);
        }
        Pattern::Event { bytes } => {
            let map = b.map(MAP);
            let size = b.constant(i64::from(bytes));
            let flags = b.constant(0);
            b.call(Helper::RingbufOutput, &[map, values, size, flags]);
        }
    }
}

fn callee() -> Result<Function, LowerError> {
    let mut b = Builder::new(CALLEE, ".text", &[]);
    b.ret(0);
    b.finish(FrameLimit::Leaf)
}

fn map(pattern: Pattern) -> Option<Map> {
    let bytes = |count| Some(Type::Array(Box::new(Type::Unsigned(1)), count));
    let (kind, key, value, max_entries) = match pattern {
        Pattern::Lookup { kind, key, .. } => {
            let entries = match kind {
                MapKind::Array | MapKind::PerCpuArray => 1,
                MapKind::Hash
                | MapKind::LruHash
                | MapKind::LpmTrie
                | MapKind::RingBuf
                | MapKind::ProgArray => ENTRIES,
            };
            (kind, bytes(key), bytes(128), entries)
        }
        Pattern::Update { kind, key, value } => (kind, bytes(key), bytes(value), ENTRIES),
        Pattern::Delete => (MapKind::LruHash, bytes(16), bytes(8), ENTRIES),
        Pattern::Event { .. } => (MapKind::RingBuf, None, None, 1 << 22),
        Pattern::Empty
        | Pattern::Chain
        | Pattern::Independent
        | Pattern::MultiplyChain
        | Pattern::Divide
        | Pattern::Load
        | Pattern::Store
        | Pattern::StoreLoad
        | Pattern::AtomicAdd
        | Pattern::FetchAdd
        | Pattern::Exchange
        | Pattern::CompareExchange
        | Pattern::Jump
        | Pattern::Function
        | Pattern::Clock => return None,
    };
    let (key, value) = match kind {
        MapKind::Array | MapKind::PerCpuArray => (Some(Type::Unsigned(4)), value),
        // The kernel wants a structure here.
        MapKind::LpmTrie => (Some(prefix()), value),
        MapKind::Hash | MapKind::LruHash | MapKind::RingBuf | MapKind::ProgArray => (key, value),
    };
    Some(Map {
        name: MAP.to_owned(),
        kind,
        key,
        value,
        max_entries,
        flags: u32::from(kind == MapKind::LpmTrie),
        programs: Vec::new(),
    })
}

fn prefix() -> Type {
    let member = |name: &str, offset, ty| Member { name: name.to_owned(), offset, ty };
    Type::Struct(Struct {
        name: "nn_prefix".to_owned(),
        size: 20,
        members: vec![
            member("bits", 0, Type::Unsigned(4)),
            member("host", 4, Type::Array(Box::new(Type::Unsigned(1)), 16)),
        ],
    })
}
