//! What can execute the packet path: the interpreter, the virtual machine, the kernel. All three give the
//! same answers, bit for bit.

use std::collections::BTreeMap;

use nnbpf_compiler::bpf::module::{Module, Type};
use nnbpf_compiler::compile;
use nnbpf_compiler::ir::flow::interpret::{self as flow, FlowInterpreter, Judgement, Mode, Swept, Verdict};
use nnbpf_compiler::ir::flow::lists::HostLists;
use nnbpf_compiler::ir::flow::{FlowProgram, Trigger};
use nnbpf_compiler::ir::{Network, interpret};
use nnbpf_compiler::lower::packet::ENTRY;
use nnbpf_compiler::lower::packet::hook::answers;
use nnbpf_compiler::lower::packet::maps::{CLOCK, CONFIG, FLOWS, MODE_ENFORCE};
use nnbpf_compiler::lower::packet::shared::acts;
use nnbpf_compiler::lower::packet::sweep::{KEY_AT, SWEEP};
use nnbpf_compiler::lower::{internal, scratch};
use nnbpf_compiler::spec::typed::Hook;
use nnbpf_compiler::vm::Vm;
use nnbpf_runtime_loader::{Kernel, Loaded, MapError, RunInput, Update, pin_to_cpu, test_run};

use crate::Refusal;

/// The processor that the kernel's test runs stay on.
const CPU: usize = 0;

/// Executes packets in order.
pub trait Engine {
    /// One packet at its capture time.
    fn packet(&mut self, data: &[u8], ts_ns: u64) -> Result<PacketResult, Refusal>;
    /// Keys and records of all flows, by key.
    fn records(&mut self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Refusal>;
    /// Sweeps the record of a key; gives the verdict where it was judged.
    fn sweep(&mut self, key: &[u8], now_ns: u64) -> Result<Option<Judged>, Refusal>;
}

/// What became of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketResult {
    pub fate: Fate,
    /// The verdict on the old record that it retired.
    pub retired: Option<Judged>,
    /// The verdict on its own record.
    pub own: Option<Judged>,
}

/// Whether the packet went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Pass,
    Drop,
}

/// A verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    pub trigger: Trigger,
    pub outputs: Vec<i64>,
    /// Bits of [`acts`].
    pub acts: i32,
}

impl Judged {
    /// What the verdict asks for, as in `drop+block+report`; `pass` for nothing.
    #[must_use]
    pub fn action(&self) -> String {
        let wanted: Vec<&str> =
            acts::NAMES.into_iter().filter(|(bit, _)| self.acts & bit != 0).map(|(_, name)| name).collect();
        if wanted.is_empty() { "pass".to_owned() } else { wanted.join("+") }
    }
}

impl From<Verdict> for Judged {
    fn from(verdict: Verdict) -> Self {
        let acts = verdict.acts.bits();
        Self { trigger: verdict.trigger, outputs: verdict.judgement.outputs, acts }
    }
}

/// The reference interpreters.
pub struct Interpreted<'p> {
    program: &'p FlowProgram,
    flow: FlowInterpreter<'p>,
    network: &'p Network,
}

impl<'p> Interpreted<'p> {
    #[must_use]
    pub fn new(program: &'p FlowProgram, network: &'p Network, mode: Mode) -> Self {
        Self { program, flow: FlowInterpreter::with(program, mode, HostLists::default()), network }
    }
}

fn judge(network: &Network) -> impl FnMut(&[i64]) -> Judgement {
    |features| {
        let verdict = interpret::run(network, features);
        Judgement { label: verdict.label.unwrap_or(0), rules: verdict.rules, outputs: verdict.outputs }
    }
}

impl Engine for Interpreted<'_> {
    fn packet(&mut self, data: &[u8], ts_ns: u64) -> Result<PacketResult, Refusal> {
        let result = self.flow.packet(data, ts_ns, &mut judge(self.network));
        let fate = match result.fate {
            flow::Fate::Pass => Fate::Pass,
            flow::Fate::Blocked | flow::Fate::Dropped => Fate::Drop,
        };
        Ok(PacketResult {
            fate,
            retired: result.retired.map(Judged::from),
            own: result.own.map(Judged::from),
        })
    }

    fn records(&mut self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Refusal> {
        let records = self.flow.table().by_creation().into_iter();
        let form = self.program.key_form();
        Ok(records.map(|(key, record)| (form.cut(&key), record.to_bytes(self.program))).collect())
    }

    fn sweep(&mut self, key: &[u8], now_ns: u64) -> Result<Option<Judged>, Refusal> {
        let key = self.program.key_form().read(key).ok_or_else(|| broken("a key of another size"))?;
        match self.flow.sweep(key, now_ns, &mut judge(self.network)) {
            Swept::Judged(verdict) => Ok(Some(verdict.into())),
            Swept::Removed | Swept::Kept => Ok(None),
        }
    }
}

/// Where verdicts stand in the scratch value of a module.
struct Places {
    bytes: usize,
    own: usize,
    outputs: usize,
    retired: usize,
    retired_outputs: usize,
    count: usize,
    hook: Hook,
}

impl Places {
    fn of(module: &Module, hook: Hook) -> Option<Self> {
        let map = module.maps.iter().find(|map| map.name == scratch::MAP)?;
        let Some(Type::Struct(value)) = &map.value else { return None };
        let member = |name: &str| value.members.iter().find(|member| member.name == name);
        let count = match &member("outputs")?.ty {
            Type::Array(_, count) => *count,
            Type::Unsigned(_) | Type::Signed(_) | Type::Struct(_) => return None,
        };
        Some(Self {
            bytes: value.size as usize,
            own: member("verdict")?.offset as usize,
            outputs: member("outputs")?.offset as usize,
            retired: member("retired_verdict")?.offset as usize,
            retired_outputs: member("retired_model")?.offset as usize + 8,
            count: count as usize,
            hook,
        })
    }

    fn result(&self, ret: u32, scratch: &[u8]) -> PacketResult {
        let dropped = ret.cast_signed() == answers(self.hook).drop;
        let verdict = |at: usize, outputs: usize| {
            let trigger = match word(scratch, at) {
                1 => Trigger::End,
                2 => Trigger::Idle,
                3 => Trigger::Every,
                5 => Trigger::After,
                _ => return None,
            };
            let outputs = (0..self.count).map(|index| long(scratch, outputs + index * 8)).collect();
            Some(Judged { trigger, outputs, acts: word(scratch, at + 4).cast_signed() })
        };
        PacketResult {
            fate: if dropped { Fate::Drop } else { Fate::Pass },
            retired: verdict(self.retired, self.retired_outputs),
            own: verdict(self.own, self.outputs),
        }
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u32::from_le_bytes(*word))
}

fn long(bytes: &[u8], at: usize) -> i64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| i64::from_le_bytes(*word))
}

/// The first word of the configuration.
fn mode_bytes(mode: Mode) -> [u8; 16] {
    let mut config = [0; 16];
    if let (Mode::Enforce, Some(first)) = (mode, config.first_mut()) {
        *first = MODE_ENFORCE as u8;
    }
    config
}

/// What `nn_sweep` takes for a packet.
fn sweep_packet(key: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; KEY_AT];
    packet.extend(key);
    packet
}

fn broken(what: &'static str) -> Refusal {
    internal(&std::io::Error::other(what)).into()
}

/// The bytecode in the virtual machine.
pub struct Virtual {
    vm: Vm,
    places: Places,
}

impl Virtual {
    pub fn new(module: &Module, hook: Hook, mode: Mode) -> Result<Self, Refusal> {
        let places = Places::of(module, hook).ok_or_else(|| broken("the module has no verdicts"))?;
        let mut vm = Vm::new(module).map_err(|error| Refusal::from(internal(&error)))?;
        if let Some(config) = vm.data_mut(CONFIG) {
            config.copy_from_slice(&mode_bytes(mode));
        }
        Ok(Self { vm, places })
    }

    /// Sets the clock and forgets the last verdicts.
    fn prepare(&mut self, now_ns: u64) {
        if let Some(clock) = self.vm.data_mut(CLOCK) {
            clock.copy_from_slice(&now_ns.to_le_bytes());
        }
        if let Some(value) = self.vm.map(scratch::MAP).as_mut().and_then(|map| map.at_mut(0)) {
            value.fill(0);
        }
    }
}

impl Engine for Virtual {
    fn packet(&mut self, data: &[u8], ts_ns: u64) -> Result<PacketResult, Refusal> {
        self.prepare(ts_ns);
        let mut frame = data.to_vec();
        let run = self.vm.run(ENTRY, &mut frame, ts_ns).map_err(|error| Refusal::from(internal(&error)))?;
        let mut map = self.vm.map(scratch::MAP);
        let value = map.as_mut().and_then(|map| map.at(0)).unwrap_or_default();
        // As the kernel, which reports the low half.
        Ok(self.places.result(run.ret as u32, value))
    }

    fn records(&mut self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Refusal> {
        let map = self.vm.map(FLOWS).ok_or_else(|| broken("the module has no flows"))?;
        Ok(map.entries().into_iter().collect())
    }

    fn sweep(&mut self, key: &[u8], now_ns: u64) -> Result<Option<Judged>, Refusal> {
        self.prepare(now_ns);
        let run = self.vm.run(SWEEP, &mut sweep_packet(key), now_ns);
        let run = run.map_err(|error| Refusal::from(internal(&error)))?;
        let mut map = self.vm.map(scratch::MAP);
        let value = map.as_mut().and_then(|map| map.at(0)).unwrap_or_default();
        Ok(self.places.result(run.ret as u32, value).retired)
    }
}

/// The bytecode in this machine's kernel.
pub struct Running {
    loaded: Loaded,
    places: Places,
    /// What clears the scratch value on every processor.
    cleared: Vec<Vec<u8>>,
}

impl Running {
    pub fn new(module: &Module, hook: Hook, mode: Mode) -> Result<Self, Refusal> {
        let places = Places::of(module, hook).ok_or_else(|| broken("the module has no verdicts"))?;
        let object = compile::object(module)?;
        let loaded = Kernel::load(&object).map_err(|error| error.diagnostics("the replayed object"))?;
        let refused = |error: MapError| Refusal::from(error.diagnostic());
        loaded.map(CONFIG).map_err(refused)?.write_value(&mode_bytes(mode)).map_err(refused)?;
        pin_to_cpu(CPU).map_err(|_| broken("the process cannot stay on one processor"))?;
        let cpus = nnbpf_runtime_loader::possible_cpus().map_err(refused)?;
        let cleared = vec![vec![0; places.bytes]; cpus];
        Ok(Self { loaded, places, cleared })
    }

    /// Runs a program at a time; gives what it says and leaves in the scratch value.
    fn run(&self, program: &str, data: &[u8], now_ns: u64) -> Result<PacketResult, Refusal> {
        let refused = |error: MapError| Refusal::from(error.diagnostic());
        let zero = 0u32.to_le_bytes();
        self.loaded.map(CLOCK).map_err(refused)?.write_value(&now_ns.to_le_bytes()).map_err(refused)?;
        let map = self.loaded.map(scratch::MAP).map_err(refused)?;
        map.update_per_cpu(&zero, &self.cleared, Update::Any).map_err(refused)?;
        let input = RunInput { data, repeat: 1, output: false };
        let run = self.loaded.run(program, input).map_err(|error| Refusal::from(error.diagnostic()))?;
        let values = map.lookup_per_cpu(&zero).map_err(refused)?.unwrap_or_default();
        Ok(self.places.result(run.ret, values.get(CPU).map_or(&[], Vec::as_slice)))
    }
}

impl Engine for Running {
    fn packet(&mut self, data: &[u8], ts_ns: u64) -> Result<PacketResult, Refusal> {
        let nothing = PacketResult { fate: Fate::Pass, retired: None, own: None };
        if test_run::is_stub(self.places.hook, data) {
            // Hardly an interface delivers such a frame and no test run takes it; the parser refuses it anyway.
            return Ok(nothing);
        }
        self.run(ENTRY, data, ts_ns)
    }

    fn records(&mut self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Refusal> {
        let refused = |error: MapError| Refusal::from(error.diagnostic());
        let mut records = BTreeMap::new();
        let map = self.loaded.map(FLOWS).map_err(refused)?;
        map.entries(|key, record| {
            records.insert(key.to_vec(), record.to_vec());
            Ok::<_, MapError>(())
        })
        .map_err(refused)?;
        Ok(records)
    }

    fn sweep(&mut self, key: &[u8], now_ns: u64) -> Result<Option<Judged>, Refusal> {
        Ok(self.run(SWEEP, &sweep_packet(key), now_ns)?.retired)
    }
}
