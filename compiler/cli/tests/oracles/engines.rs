//! Interpreter, virtual machine and kernel behind one interface, with everything that a packet can change:
//! verdicts, flow records, counters, block list, events.
//!
//! This is written independently of the engines of `nnbpfc replay`, which the command line's tests compare.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use nnbpf_compiler::bpf::module::{Module, Type};
use nnbpf_compiler::compile::Plan;
use nnbpf_compiler::elf;
use nnbpf_compiler::ir::flow::guard::{EventFilter, Fuse};
use nnbpf_compiler::ir::flow::interpret::{self as flow, Fate, FlowInterpreter, Judgement, Mode, Verdict};
use nnbpf_compiler::ir::flow::lists::HostLists;
use nnbpf_compiler::ir::flow::{Counter, FlowProgram};
use nnbpf_compiler::ir::{Network, interpret};
use nnbpf_compiler::lower::network::shadow;
use nnbpf_compiler::lower::packet::ENTRY;
use nnbpf_compiler::lower::packet::guard::{self, FILTER, FUSE, FUSE_SEEN, filter_bytes, fuse_bytes};
use nnbpf_compiler::lower::packet::maps::{
    BLOCKED, CLOCK, CONFIG, CONFIG_EPOCH, COUNTERS, EVENTS, FLOWS, SAMPLES, SIDE_FLOWS, event_type,
};
use nnbpf_compiler::lower::packet::shared::acts;
use nnbpf_compiler::lower::packet::sweep::SWEEP;
use nnbpf_compiler::lower::scratch;
use nnbpf_compiler::spec::typed::{Action, Hook};
use nnbpf_compiler::vm::{Skb, Vm};
use nnbpf_runtime_loader::hot_update::{ACTIVE, PARAMS};
use nnbpf_runtime_loader::{Kernel, Loaded, RunInput, Update, pin_to_cpu, possible_cpus};

mod running;

pub(crate) use running::Running;

/// No test run takes a shorter frame.
pub(crate) const SHORTEST: usize = 14;
/// Longest frame of one buffer in a test run of XDP.
pub(crate) const LINEAR: usize = 3_520;
/// Longest frame in a test run of tc.
pub(crate) const LONGEST_TC: usize = 3_712;

/// What a packet led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) dropped: bool,
    /// The mark that the packet has afterwards; 0 at first.
    pub(crate) mark: u32,
    pub(crate) retired: Option<Judged>,
    pub(crate) own: Option<Judged>,
}

/// A verdict with everything that the model said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judged {
    trigger: u32,
    acts: i32,
    pub(crate) label: u32,
    rules: u32,
    outputs: Vec<i64>,
}

/// What a sweep did to a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Swept {
    pub(crate) removed: bool,
    pub(crate) judged: Option<Judged>,
}

/// What remains after packets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) flows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Records of further tables, by the name of the map.
    pub(crate) sides: BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>,
    pub(crate) counters: BTreeMap<&'static str, u64>,
    pub(crate) blocked: BTreeMap<Vec<u8>, u64>,
    pub(crate) epoch: u64,
    /// 0 monitor, 1 enforce.
    pub(crate) mode: u32,
    /// `seen` and `next_ns` of the event filter.
    pub(crate) filter: [u64; 2],
    /// `blown`, then time, packets and drops when it blew.
    pub(crate) fuse: [u64; 4],
    /// Since the last look.
    pub(crate) events: Vec<Vec<u8>>,
    /// What a shadow was compared with: the counts of `nn_shadow` that are not zero, by position.
    pub(crate) pairs: BTreeMap<usize, u64>,
}

/// Something that executes the packet path.
pub(crate) trait Engine {
    fn packet(&mut self, frame: &[u8], now: u64) -> Answer;
    /// Sweeps the record of a key.
    fn sweep(&mut self, key: &[u8], now: u64) -> Swept;
    fn state(&mut self) -> State;
    /// Sets the event filter and the fuse.
    fn guard(&mut self, filter: &EventFilter, fuse: &Fuse);
}

fn named(counters: impl Iterator<Item = u64>) -> BTreeMap<&'static str, u64> {
    Counter::all().map(Counter::name).zip(counters).collect()
}

/// The reference interpreters.
pub(crate) struct Interpreted<'p> {
    program: &'p FlowProgram,
    network: &'p Network,
    flow: FlowInterpreter<'p>,
    events: Vec<Vec<u8>>,
    shadow: Option<&'p Network>,
    pairs: BTreeMap<usize, u64>,
}

impl<'p> Interpreted<'p> {
    pub(crate) fn new(program: &'p FlowProgram, plan: &'p Plan, mode: Mode) -> Self {
        let flow = FlowInterpreter::with(program, mode, HostLists::default());
        let network = plan.network.get();
        Self { program, network, flow, events: Vec::new(), shadow: None, pairs: BTreeMap::new() }
    }

    /// Compares every verdict with this network's.
    pub(crate) fn with_shadow(mut self, shadow: &'p Network) -> Self {
        self.shadow = Some(shadow);
        self
    }
}

/// Where `nn_shadow` counts two verdicts on the same features, by its documentation.
fn pair(network: &Network, verdict: &interpret::Verdict, other: &interpret::Verdict) -> usize {
    if !network.decision.further.is_empty() {
        let labels = |verdict: &interpret::Verdict| -> Vec<Option<u32>> {
            interpret::labels(&network.decision, &verdict.outputs).collect()
        };
        return usize::from(labels(verdict) != labels(other));
    }
    let classes = network.output_count().max(2);
    match (verdict.label, other.label) {
        (Some(row), Some(column)) if classes <= 64 => row as usize * classes + column as usize,
        (Some(label), Some(other)) => usize::from(label != other),
        _ => usize::from(verdict.outputs != other.outputs),
    }
}

fn nonzero(counts: impl Iterator<Item = u64>) -> BTreeMap<usize, u64> {
    counts.enumerate().filter(|(_, count)| *count > 0).collect()
}

/// The sections while a shadow runs beside the slot of this index, which has the parameters that it had.
fn shadow_sections(params: &mut [u8], active: &mut [u8], index: u8, shadow: &[u8]) {
    let (first, second) = params.split_at_mut(shadow.len());
    if index == 0 { second } else { first }.copy_from_slice(shadow);
    active[0] = index | 2;
}

fn act_bits(verdict: &Verdict) -> i32 {
    let wanted = &verdict.acts;
    i32::from(wanted.drop) * acts::DROP
        + i32::from(wanted.block_until.is_some()) * acts::BLOCK
        + i32::from(wanted.report) * acts::REPORT
        + i32::from(wanted.mark.is_some()) * acts::MARK
        + i32::from(wanted.block_receiver_until.is_some()) * acts::BLOCK_RECEIVER
}

fn judged(verdict: Verdict) -> Judged {
    Judged {
        trigger: verdict.trigger as u32,
        acts: act_bits(&verdict),
        label: verdict.judgement.label,
        rules: verdict.judgement.rules,
        outputs: verdict.judgement.outputs,
    }
}

fn event(verdict: &Verdict, now: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    // The generation of compiled-in parameters is 1.
    for word in [now, 1, verdict.first_ns, verdict.packets] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(verdict.src.0);
    bytes.extend(verdict.dst.0);
    bytes.extend(verdict.src_port.to_le_bytes());
    bytes.extend(verdict.dst_port.to_le_bytes());
    bytes.extend([verdict.proto, verdict.trigger as u8]);
    bytes.extend(u16::try_from(act_bits(verdict)).unwrap().to_le_bytes());
    bytes.extend(verdict.judgement.label.to_le_bytes());
    bytes.extend(verdict.judgement.rules.to_le_bytes());
    bytes.extend(verdict.judgement.outputs.iter().flat_map(|value| value.to_le_bytes()));
    bytes.extend(verdict.features.iter().flat_map(|value| value.to_le_bytes()));
    let size = event_type(verdict.judgement.outputs.len(), verdict.features.len()).size();
    assert_eq!(bytes.len(), size as usize);
    bytes
}

fn fuse_event(fuse: &Fuse) -> Vec<u8> {
    let blown = fuse.blown.unwrap();
    let mut bytes = Vec::new();
    for word in [blown.at_ns, blown.packets, blown.drops] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(fuse.limit.to_le_bytes());
    bytes.extend(fuse.window.to_le_bytes());
    bytes
}

/// `seen` and `next_ns` of a filter's value.
fn filter_state(value: &[u8]) -> [u64; 2] {
    [guard::filter::SEEN, guard::filter::NEXT].map(|at| words(&value[at as usize..]).next().unwrap())
}

/// The mark of a fuse's value.
fn fuse_state(value: &[u8]) -> [u64; 4] {
    use guard::fuse::{BLOWN, BLOWN_DROPS, BLOWN_NS, BLOWN_PACKETS};
    [BLOWN, BLOWN_NS, BLOWN_PACKETS, BLOWN_DROPS].map(|at| words(&value[at as usize..]).next().unwrap())
}

impl Engine for Interpreted<'_> {
    fn packet(&mut self, frame: &[u8], now: u64) -> Answer {
        let (network, shadow, pairs) = (self.network, self.shadow, &mut self.pairs);
        let mut judge = |features: &[i64]| {
            let verdict = interpret::run(network, features);
            if let Some(shadow) = shadow {
                let other = interpret::run(shadow, features);
                *pairs.entry(pair(network, &verdict, &other)).or_default() += 1;
            }
            Judgement { label: verdict.label.unwrap_or(0), rules: verdict.rules, outputs: verdict.outputs }
        };
        let whole = self.flow.fuse().blown.is_none();
        let result = self.flow.packet(frame, now, &mut judge);
        self.events.extend(result.verdicts().filter(|v| v.reported).map(|v| event(v, now)));
        if whole && self.flow.fuse().blown.is_some() {
            self.events.push(fuse_event(self.flow.fuse()));
        }
        Answer {
            dropped: result.fate != Fate::Pass,
            mark: result.mark.unwrap_or(0),
            retired: result.retired.map(judged),
            own: result.own.map(judged),
        }
    }

    fn sweep(&mut self, key: &[u8], now: u64) -> Swept {
        let network = self.network;
        let mut judge = |features: &[i64]| {
            let verdict = interpret::run(network, features);
            Judgement { label: verdict.label.unwrap_or(0), rules: verdict.rules, outputs: verdict.outputs }
        };
        let known = self.flow.table().by_creation().into_iter().map(|(key, _)| key);
        let form = self.program.key_form();
        let key = known.into_iter().find(|known| form.cut(known) == key).unwrap();
        match self.flow.sweep(key, now, &mut judge) {
            flow::Swept::Kept => Swept { removed: false, judged: None },
            flow::Swept::Removed => Swept { removed: true, judged: None },
            flow::Swept::Judged(verdict) => {
                if verdict.reported {
                    self.events.push(event(&verdict, now));
                }
                Swept { removed: true, judged: Some(judged(verdict)) }
            }
        }
    }

    fn state(&mut self) -> State {
        let flows = self.flow.table().by_creation();
        let form = self.program.key_form();
        let flows = flows.iter().map(|(k, r)| (form.cut(k), r.to_bytes(self.program))).collect();
        let sides = self
            .program
            .side_tables()
            .zip(self.flow.sides())
            .map(|((id, side), table)| {
                let records = table.by_creation().into_iter();
                let bytes = records.map(|(k, r)| (k.packed(side.key), r.side_bytes(self.program, id, side)));
                (format!("{SIDE_FLOWS}{}", side.name), bytes.collect())
            })
            .collect();
        let counters = named(Counter::all().map(|counter| self.flow.counter(counter)));
        let mode = u32::from(self.flow.mode() == Mode::Enforce);
        let blown = self.flow.fuse().blown;
        let fuse = blown.map_or([0; 4], |blown| [1, blown.at_ns, blown.packets, blown.drops]);
        let state = self.flow.filter_state();
        let filter = [state.seen, state.next_ns];
        let lists = self.flow.lists_mut();
        let blocked = lists.blocked().map(|(host, until)| (host.0.to_vec(), until)).collect();
        let events = std::mem::take(&mut self.events);
        State {
            flows,
            sides,
            counters,
            blocked,
            epoch: lists.epoch(),
            mode,
            filter,
            fuse,
            events,
            pairs: self.pairs.clone(),
        }
    }

    fn guard(&mut self, filter: &EventFilter, fuse: &Fuse) {
        self.flow.set_filter(*filter);
        self.flow.set_fuse(*fuse);
    }
}

/// Where things stand in the scratch value.
#[derive(Clone)]
struct Places {
    bytes: usize,
    label: usize,
    outputs: usize,
    own: usize,
    retired: usize,
    retired_model: usize,
    count: usize,
    pass: u32,
    drop: u32,
}

impl Places {
    fn of(module: &Module, plan: &Plan) -> Self {
        // From `include/uapi/linux/bpf.h` and `include/uapi/linux/pkt_cls.h`.
        let (pass, drop) = match plan.spec.as_ref().unwrap().hook {
            Hook::Xdp => (2, 1),
            Hook::TcIngress | Hook::TcEgress => (u32::MAX, 2),
        };
        let count = plan.network.get().output_count();
        let map = module.maps.iter().find(|map| map.name == scratch::MAP).unwrap();
        let Some(Type::Struct(value)) = &map.value else { panic!("scratch is a structure") };
        let at =
            |name: &str| value.members.iter().find(|member| member.name == name).unwrap().offset as usize;
        Self {
            bytes: value.size as usize,
            label: at("label"),
            outputs: at("outputs"),
            own: at("verdict"),
            retired: at("retired_verdict"),
            retired_model: at("retired_model"),
            count,
            pass,
            drop,
        }
    }

    fn answer(&self, ret: u32, mark: u32, scratch: &[u8]) -> Answer {
        assert!([self.drop, self.pass].contains(&ret), "return value {ret}");
        let [retired, own] = self.verdicts(scratch);
        Answer { dropped: ret == self.drop, mark, retired, own }
    }

    /// What `nn_sweep` said by its documentation.
    fn swept(&self, ret: u32, scratch: &[u8]) -> Swept {
        let [judged, own] = self.verdicts(scratch);
        assert_eq!(own, None);
        let wanted = if judged.is_some() { [257, 257] } else { [256, self.pass] };
        assert!(wanted.contains(&ret), "return value {ret}");
        Swept { removed: ret != self.pass, judged }
    }

    /// The verdicts on an old record and on a packet's own.
    fn verdicts(&self, scratch: &[u8]) -> [Option<Judged>; 2] {
        let word = |at: usize| u32::from_le_bytes(*scratch[at..].first_chunk().unwrap());
        let verdict = |verdict: usize, model: usize, outputs: usize| {
            let output = |index| i64::from_le_bytes(*scratch[outputs + index * 8..].first_chunk().unwrap());
            (word(verdict) != 0).then(|| Judged {
                trigger: word(verdict),
                acts: word(verdict + 4).cast_signed(),
                label: word(model),
                rules: word(model + 4),
                outputs: (0..self.count).map(output).collect(),
            })
        };
        [
            verdict(self.retired, self.retired_model, self.retired_model + 8),
            verdict(self.own, self.label, self.outputs),
        ]
    }
}

/// The maps of further tables.
fn sides(module: &Module) -> Vec<String> {
    let names = module.maps.iter().map(|map| map.name.clone());
    names.filter(|name| name.starts_with(SIDE_FLOWS)).collect()
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()))
}

/// A key behind 14 bytes.
fn sweep_packet(key: &[u8]) -> Vec<u8> {
    [&[0; 14], key].concat()
}

fn config(mode: Mode) -> [u8; 16] {
    let mut config = [0; 16];
    config[0] = u8::from(mode == Mode::Enforce);
    config
}

/// How a frame that arrives at a time comes to lie in its socket buffer.
pub(crate) type Scatter = fn(&[u8], u64) -> (Vec<u8>, Skb);

/// The virtual machine.
pub(crate) struct Virtual {
    vm: Vm,
    places: Places,
    sides: Vec<String>,
    /// How packets come to lie in their socket buffers; without it all is linear and no tag lies beside.
    scatter: Option<Scatter>,
}

impl Virtual {
    pub(crate) fn new(module: &Module, plan: &Plan, mode: Mode) -> Self {
        let mut vm = Vm::new(module).unwrap();
        vm.data_mut(CONFIG).unwrap().copy_from_slice(&config(mode));
        Self { vm, places: Places::of(module, plan), sides: sides(module), scatter: None }
    }

    /// With packets that lie in their socket buffers like this.
    pub(crate) fn scattered(self, scatter: Scatter) -> Self {
        Self { scatter: Some(scatter), ..self }
    }

    /// Runs a shadow beside the slot of this index.
    pub(crate) fn with_shadow(mut self, index: u8, shadow: &[u8]) -> Self {
        let mut params = self.vm.data(PARAMS).unwrap().to_vec();
        let mut active = self.vm.data(ACTIVE).unwrap().to_vec();
        shadow_sections(&mut params, &mut active, index, shadow);
        self.vm.data_mut(PARAMS).unwrap().copy_from_slice(&params);
        self.vm.data_mut(ACTIVE).unwrap().copy_from_slice(&active);
        self
    }
}

impl Engine for Virtual {
    fn packet(&mut self, frame: &[u8], now: u64) -> Answer {
        self.vm.data_mut(CLOCK).unwrap().copy_from_slice(&now.to_le_bytes());
        self.vm.map(scratch::MAP).unwrap().at_mut(0).unwrap().fill(0);
        let (mut packet, skb) = match self.scatter {
            Some(scatter) => scatter(frame, now),
            None => (frame.to_vec(), Skb::default()),
        };
        let run = self.vm.run_skb(ENTRY, &mut packet, skb, 0).unwrap();
        let mut map = self.vm.map(scratch::MAP).unwrap();
        self.places.answer(run.ret as u32, run.mark, map.at(0).unwrap())
    }

    fn sweep(&mut self, key: &[u8], now: u64) -> Swept {
        self.vm.data_mut(CLOCK).unwrap().copy_from_slice(&now.to_le_bytes());
        self.vm.map(scratch::MAP).unwrap().at_mut(0).unwrap().fill(0);
        let run = self.vm.run(SWEEP, &mut sweep_packet(key), 0).unwrap();
        let mut map = self.vm.map(scratch::MAP).unwrap();
        self.places.swept(run.ret as u32, map.at(0).unwrap())
    }

    fn state(&mut self) -> State {
        // Single packets have no table.
        let mut entries = |name: &str| self.vm.map(name).map(|map| map.entries()).unwrap_or_default();
        let flows = entries(FLOWS).into_iter().collect();
        let sides =
            self.sides.iter().map(|name| (name.clone(), entries(name).into_iter().collect())).collect();
        let blocked = entries(BLOCKED).into_iter().map(|(k, v)| (k, words(&v).next().unwrap())).collect();
        let counters = named(words(self.vm.map(COUNTERS).unwrap().at(0).unwrap()));
        let config = self.vm.data(CONFIG).unwrap();
        let epoch = words(&config[CONFIG_EPOCH as usize..]).next().unwrap();
        let mode = u32::from_le_bytes(*config.first_chunk().unwrap());
        let filter = filter_state(self.vm.data(FILTER).unwrap());
        let fuse = fuse_state(self.vm.data(FUSE).unwrap());
        let events = self.vm.map(EVENTS).unwrap().records();
        let pairs = nonzero(self.vm.map(shadow::MAP).into_iter().flat_map(|mut map| {
            let counts: Vec<u64> = words(map.at(0).unwrap()).collect();
            counts
        }));
        State { flows, sides, counters, blocked, epoch, mode, filter, fuse, events, pairs }
    }

    fn guard(&mut self, filter: &EventFilter, fuse: &Fuse) {
        self.vm.data_mut(FILTER).unwrap().copy_from_slice(&filter_bytes(filter));
        self.vm.data_mut(FUSE).unwrap().copy_from_slice(&fuse_bytes(fuse));
    }
}
