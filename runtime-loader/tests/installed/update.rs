//! New parameters under traffic: no inference sees a part of the old ones and a part of the new ones.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nnbpf_compiler::bpf::module::{Module, Type};
use nnbpf_compiler::check::check;
use nnbpf_compiler::compile::Plan;
use nnbpf_compiler::ir::{Dense, Network, Op, interpret};
use nnbpf_compiler::lower::scratch;
use nnbpf_compiler::params::slot;
use nnbpf_runtime_loader::hot_update::{self, ACTIVE, Active, PARAMS};
use nnbpf_runtime_loader::shadow::{self, Counts};
use nnbpf_runtime_loader::{Kernel, Loaded, RunInput, Update, pin_to_cpu, possible_cpus};

use crate::{built, common};

/// Packets that are all alike give features that stay the same. Each is one value of the record: of two, as a mean
/// has them, a verdict may see one before and one after a packet that the other processor has in flight.
const SPEC: &str = "
spec same v1;
attach xdp;
flow conn on udp {
    key      five_tuple directional;
    capacity 1024 evict lru;
    idle     never;
    end      never;
}
features of conn {
    longest  = max(l4.payload_len) in 0..1500;
    shortest = min(l4.payload_len) in 0..1500;
    lowest   = min(l4.len) in 0..1500;
    whole    = max(l4.len) in 0..1500;
    dst_port = first(l4.dst_port);
    src_port = last(l4.src_port);
}
model { labels benign, attack; }
classify conn at every packet;
on attack { report; }
";

const MODEL: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/cases/scaled-6-32-32-2/model.onnx"));

/// Inferences that are compared at least, and the time that they take at least.
const INFERENCES: u64 = 200_000;
const TIME: Duration = Duration::from_secs(4);

/// Two networks of one plan whose outputs differ, and the outputs of each for our packet.
struct Pair {
    slots: [Vec<u8>; 2],
    outputs: [Vec<i64>; 2],
}

/// Reverses the neurons of every hidden layer, which changes every layer's parameters and no output, and then
/// the outputs.
fn reversed(network: &Network) -> Network {
    let mut network = network.clone();
    let mut first = true;
    for op in &mut network.ops {
        let Op::Dense(dense) = op else { continue };
        let Dense { rows, columns, ref weights, ref bias, .. } = *dense;
        let column = |column: usize| if first { column } else { columns - 1 - column };
        let mirrored = (0..rows).rev().flat_map(|row| {
            (0..columns).map(move |c| (row, c)).map(|(row, c)| weights[row * columns + column(c)])
        });
        let (weights, bias) = (mirrored.collect(), bias.iter().rev().copied().collect());
        (dense.weights, dense.bias, first) = (weights, bias, false);
    }
    check(network).unwrap().into_inner()
}

/// The first half of the layers from one network, the rest from the other.
fn mixed(one: &Network, other: &Network) -> Network {
    let mut network = one.clone();
    let half = network.ops.len() / 2;
    network.ops[half..].clone_from_slice(&other.ops[half..]);
    network
}

impl Pair {
    fn new(plan: &Plan, features: &[i64]) -> Self {
        let networks = [plan.network.get().clone(), reversed(plan.network.get())];
        let outputs = networks.each_ref().map(|network| interpret::outputs(network, features));
        assert_ne!(outputs[0], outputs[1]);
        // Whoever mixes them is found out.
        for (one, other) in [(0, 1), (1, 0)] {
            let between = interpret::outputs(&mixed(&networks[one], &networks[other]), features);
            assert!(!outputs.contains(&between), "{between:?} {outputs:?}");
        }
        Self { slots: networks.each_ref().map(slot::bytes), outputs }
    }
}

/// A datagram of 58 bytes in IPv4.
fn packet() -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
    frame.extend([0x45, 0, 0, 58, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0x30, 0x39, 0x01, 0xbb, 0, 38, 0, 0]);
    frame.extend([0xaa; 30]);
    frame
}

/// Where generation, features and outputs stand in the scratch value.
struct Places {
    generation: usize,
    features: usize,
    outputs: usize,
}

impl Places {
    fn of(module: &Module) -> Self {
        let map = module.maps.iter().find(|map| map.name == scratch::MAP).unwrap();
        let Some(Type::Struct(value)) = &map.value else { panic!("the scratch value has no structure") };
        let offset =
            |name: &str| value.members.iter().find(|member| member.name == name).unwrap().offset as usize;
        Self { generation: offset("generation"), features: offset("features"), outputs: offset("outputs") }
    }
}

fn words(bytes: &[u8], at: usize, count: usize) -> Vec<i64> {
    bytes[at..at + 8 * count].as_chunks().0.iter().map(|word| i64::from_ne_bytes(*word)).collect()
}

struct Bench {
    plan: Plan,
    loaded: Loaded,
    places: Places,
}

impl Bench {
    fn new() -> Self {
        let plan = built::plan_of(MODEL, SPEC);
        let module = built::module(&plan);
        let loaded = Kernel::load(&built::object(&plan)).unwrap();
        Self { places: Places::of(&module), plan, loaded }
    }

    /// One packet on this processor: generation, features, outputs.
    fn infer(&self, packet: &[u8], cpu: usize) -> (u64, Vec<i64>, Vec<i64>) {
        self.loaded.run("nn_entry", RunInput { data: packet, repeat: 1, output: false }).unwrap();
        let copies = self.loaded.map(scratch::MAP).unwrap().lookup_per_cpu(&[0; 4]).unwrap().unwrap();
        let scratch = &copies[cpu];
        (
            words(scratch, self.places.generation, 1)[0].cast_unsigned(),
            words(scratch, self.places.features, 6),
            words(scratch, self.places.outputs, 2),
        )
    }

    /// Generation and features of the first packet, which makes the flow. On a thread of its own: the calling one
    /// must stay free to run beside those that infer.
    fn first(&self) -> (u64, Vec<i64>) {
        std::thread::scope(|scope| {
            let first = || {
                pin_to_cpu(0).unwrap();
                self.infer(&packet(), 0)
            };
            let (generation, features, _) = scope.spawn(first).join().unwrap();
            (generation, features)
        })
    }

    /// Infers on every processor until `done`, hands generation and outputs to `look`, and returns how many
    /// inferences there were. `swap` goes on meanwhile.
    fn under_traffic(
        &self,
        look: impl Fn(u64, &[i64]) + Sync,
        mut swap: impl FnMut(),
        done: impl Fn(u64) -> bool,
    ) -> u64 {
        let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
        let usable = std::thread::available_parallelism().unwrap().get();
        let packet = packet();
        std::thread::scope(|scope| {
            for cpu in 0..possible_cpus().unwrap().min(usable) {
                let (stop, count, look, packet) = (&stop, &count, &look, &packet);
                scope.spawn(move || {
                    pin_to_cpu(cpu).unwrap();
                    while !stop.load(Ordering::Relaxed) {
                        let (generation, _, outputs) = self.infer(packet, cpu);
                        look(generation, &outputs);
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            while !done(count.load(Ordering::Relaxed)) {
                swap();
            }
            stop.store(true, Ordering::Relaxed);
        });
        count.into_inner()
    }
}

#[test]
fn no_inference_sees_mixed_parameters() {
    if common::skip("no_inference_sees_mixed_parameters") {
        return;
    }
    let bench = Bench::new();
    let (generation, features) = bench.first();
    assert_eq!(generation, 1);
    assert_eq!(features[..2], [30, 30]);
    let pair = Pair::new(&bench.plan, &features);
    let (params, active) = (bench.loaded.map(PARAMS).unwrap(), bench.loaded.map(ACTIVE).unwrap());
    let wrong = AtomicU64::new(0);
    let begin = Instant::now();
    let mut swaps = 0;
    let inferences = bench.under_traffic(
        // Generation 1 has the first parameters, 2 the second ones, and so on.
        |generation, outputs| {
            let right = usize::from(generation % 2 == 0);
            wrong.fetch_add(u64::from(outputs != pair.outputs[right]), Ordering::Relaxed);
        },
        || {
            swaps += 1;
            hot_update::swap(params, active, &pair.slots[swaps % 2]).unwrap();
        },
        |count| count >= INFERENCES && begin.elapsed() >= TIME,
    );
    let seconds = begin.elapsed().as_secs_f64();
    eprintln!("{inferences} inferences, {swaps} updates in {seconds:.1} s, {wrong:?} mixed");
    assert_eq!(wrong.into_inner(), 0);
    assert!(swaps > 10);

    if std::thread::available_parallelism().unwrap().get() < 2 {
        eprintln!("SKIP no_inference_sees_mixed_parameters: the counter-proof needs two processors");
        return;
    }
    // The same comparison finds a writer that does not wait: it overwrites the active slot.
    let (wrong, begin) = (AtomicU64::new(0), Instant::now());
    let value = |set: usize| pair.slots[set].repeat(2);
    let (one, other) = (value(0), value(1));
    let inferences = bench.under_traffic(
        |_, outputs| {
            let known = pair.outputs.iter().any(|known| known == outputs);
            wrong.fetch_add(u64::from(!known), Ordering::Relaxed);
        },
        || {
            params.update(&[0; 4], &one, Update::Any).unwrap();
            params.update(&[0; 4], &other, Update::Any).unwrap();
        },
        |_| wrong.load(Ordering::Relaxed) > 0 || begin.elapsed() > Duration::from_secs(60),
    );
    eprintln!("without waiting: {wrong:?} of {inferences} mixed");
    assert!(wrong.into_inner() > 0, "the comparison cannot find mixed parameters");
}

/// Index and generation, flipped without any pause and without touching the slots, are seen as one.
#[test]
fn a_verdict_names_the_generation_that_gave_it() {
    if common::skip("a_verdict_names_the_generation_that_gave_it") {
        return;
    }
    let bench = Bench::new();
    let (_, features) = bench.first();
    let pair = Pair::new(&bench.plan, &features);
    let (params, active) = (bench.loaded.map(PARAMS).unwrap(), bench.loaded.map(ACTIVE).unwrap());
    params.update(&[0; 4], &pair.slots.concat(), Update::Any).unwrap();
    let (wrong, begin) = (AtomicU64::new(0), Instant::now());
    let mut flips = 0;
    let inferences = bench.under_traffic(
        // Odd generations have the first slot.
        |generation, outputs| {
            let slot = usize::from(generation % 2 == 0);
            wrong.fetch_add(u64::from(outputs != pair.outputs[slot]), Ordering::Relaxed);
        },
        || {
            flips += 1;
            let next = Active { index: flips % 2, generation: flips + 1 };
            active.write_value(&next.bytes()).unwrap();
        },
        |count| count >= INFERENCES && begin.elapsed() >= TIME,
    );
    eprintln!("{inferences} inferences, {flips} flips, {wrong:?} with another generation's number");
    assert_eq!(wrong.into_inner(), 0);
    assert!(flips > 1000, "{flips}");
}

/// A shadow is begun and promoted again and again under traffic: every verdict is its generation's, and every
/// pair is counted where it belongs.
#[test]
fn promotions_under_traffic_mix_nothing() {
    if common::skip("promotions_under_traffic_mix_nothing") {
        return;
    }
    let bench = Bench::new();
    let (_, features) = bench.first();
    let pair = Pair::new(&bench.plan, &features);
    let label = |outputs: &Vec<i64>| usize::from(outputs[1] > outputs[0]);
    let labels = pair.outputs.each_ref().map(label);
    assert_ne!(labels[0], labels[1]);
    let [params, active, counts] =
        [PARAMS, ACTIVE, shadow::COUNTS].map(|name| bench.loaded.map(name).unwrap());
    let (wrong, begin) = (AtomicU64::new(0), Instant::now());
    let (mut promotions, mut counted) = (0, 0);
    let inferences = bench.under_traffic(
        |generation, outputs| {
            let right = usize::from(generation % 2 == 0);
            wrong.fetch_add(u64::from(outputs != pair.outputs[right]), Ordering::Relaxed);
        },
        || {
            let (now, next) = (promotions % 2, (promotions + 1) % 2);
            shadow::start(params, active, counts, &pair.slots[next]).unwrap();
            let enough = Instant::now() + Duration::from_millis(3);
            while Instant::now() < enough {
                std::thread::yield_now();
            }
            promotions += 1;
            shadow::promote(active).unwrap().unwrap();
            let Counts::Pairs(rows) = Counts::read(counts).unwrap() else { panic!("two classes") };
            let right = rows[labels[now]][labels[next]];
            assert_eq!(rows.iter().flatten().sum::<u64>(), right, "{rows:?}");
            counted += right;
        },
        |count| count >= INFERENCES && begin.elapsed() >= TIME,
    );
    eprintln!("{inferences} inferences, {promotions} promotions, {counted} counted, {wrong:?} mixed");
    assert_eq!(wrong.into_inner(), 0);
    assert!(promotions > 10 && counted > 1000, "{promotions} {counted}");
}
