//! The running kernel as an engine.

use super::super::ring::Ring;
use super::*;

/// The processor that the calling thread stays on from now on; tests that run at the same time share the
/// processors out.
fn own_cpu() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static CPU: usize = {
            let cpus = std::thread::available_parallelism().unwrap().get();
            let cpu = NEXT.fetch_add(1, Ordering::Relaxed) % cpus;
            pin_to_cpu(cpu).unwrap();
            cpu
        };
    }
    CPU.with(|cpu| *cpu)
}

/// The running kernel. The thread that made it stays on one processor and is the only one to use it.
pub(crate) struct Running {
    loaded: Loaded,
    places: Places,
    sides: Vec<String>,
    ring: Ring,
    mode: Mode,
    cpu: usize,
    cleared: Vec<Vec<u8>>,
    marks: bool,
}

impl Running {
    /// Instructions that the verifier walked for a program.
    pub(crate) fn verified(&self, program: &str) -> Option<u32> {
        self.loaded.verified_instructions(program).unwrap()
    }

    pub(crate) fn new(module: &Module, plan: &Plan, mode: Mode) -> Self {
        let loaded = Kernel::load(&elf::write(module).unwrap()).unwrap();
        let places = Places::of(module, plan);
        let ring = Ring::new(loaded.map(EVENTS).unwrap());
        let cpu = own_cpu();
        let cleared = vec![vec![0; places.bytes]; possible_cpus().unwrap()];
        let marks = plan.flow.as_ref().unwrap().acts(|action| matches!(action, Action::Mark(_)));
        let mut running = Self { loaded, places, sides: sides(module), ring, mode, cpu, cleared, marks };
        running.reset();
        running
    }

    /// Runs a shadow beside the slot of this index.
    pub(crate) fn shadow(&self, index: u8, shadow: &[u8]) {
        let (params, active) = (self.loaded.map(PARAMS).unwrap(), self.loaded.map(ACTIVE).unwrap());
        let (mut slots, mut which) = (params.read_value().unwrap(), active.read_value().unwrap());
        shadow_sections(&mut slots, &mut which, index, shadow);
        params.write_value(&slots).unwrap();
        active.write_value(&which).unwrap();
    }

    /// Back to the state of a fresh object; a shadow stays.
    pub(crate) fn reset(&mut self) {
        for name in [FLOWS, BLOCKED].into_iter().chain(self.sides.iter().map(String::as_str)) {
            // Single packets have no table.
            let Ok(map) = self.loaded.map(name) else { continue };
            for key in map.keys().unwrap() {
                map.delete(&key).unwrap();
            }
        }
        let zero = 0u32.to_le_bytes();
        let cleared = vec![vec![0; Counter::COUNT as usize * 8]; possible_cpus().unwrap()];
        self.loaded.map(COUNTERS).unwrap().update_per_cpu(&zero, &cleared, Update::Any).unwrap();
        self.loaded.map(CONFIG).unwrap().write_value(&config(self.mode)).unwrap();
        if let Ok(map) = self.loaded.map(SAMPLES) {
            let counts = map.read_value().unwrap();
            map.write_value(&vec![0; counts.len()]).unwrap();
        }
        if let Ok(map) = self.loaded.map(shadow::MAP) {
            let mut copies = map.lookup_per_cpu(&zero).unwrap().unwrap();
            copies.iter_mut().for_each(|copy| copy.fill(0));
            map.update_per_cpu(&zero, &copies, Update::Any).unwrap();
        }
        let seen = vec![vec![0; guard::seen::BYTES]; possible_cpus().unwrap()];
        self.loaded.map(FUSE_SEEN).unwrap().update_per_cpu(&zero, &seen, Update::Any).unwrap();
        self.guard(&EventFilter::default(), &Fuse::default());
        self.ring.records();
    }
}

impl Engine for Running {
    fn packet(&mut self, frame: &[u8], now: u64) -> Answer {
        let zero = 0u32.to_le_bytes();
        self.loaded.map(CLOCK).unwrap().write_value(&now.to_le_bytes()).unwrap();
        let scratch = self.loaded.map(scratch::MAP).unwrap();
        scratch.update_per_cpu(&zero, &self.cleared, Update::Any).unwrap();
        // Only marks need what the packet has become.
        let run = self.loaded.run(ENTRY, RunInput { data: frame, repeat: 1, output: self.marks }).unwrap();
        let values = scratch.lookup_per_cpu(&zero).unwrap().unwrap();
        self.places.answer(run.ret, run.mark.unwrap_or(0), &values[self.cpu])
    }

    fn sweep(&mut self, key: &[u8], now: u64) -> Swept {
        let zero = 0u32.to_le_bytes();
        self.loaded.map(CLOCK).unwrap().write_value(&now.to_le_bytes()).unwrap();
        let scratch = self.loaded.map(scratch::MAP).unwrap();
        scratch.update_per_cpu(&zero, &self.cleared, Update::Any).unwrap();
        let data = &sweep_packet(key);
        let run = self.loaded.run(SWEEP, RunInput { data, repeat: 1, output: false }).unwrap();
        let values = scratch.lookup_per_cpu(&zero).unwrap().unwrap();
        self.places.swept(run.ret, &values[self.cpu])
    }

    fn state(&mut self) -> State {
        let entries = |name: &str| -> BTreeMap<Vec<u8>, Vec<u8>> {
            let Ok(map) = self.loaded.map(name) else { return BTreeMap::new() };
            let keys = map.keys().unwrap().into_iter();
            keys.map(|key| (key.clone(), map.lookup(&key).unwrap().unwrap())).collect()
        };
        let flows = entries(FLOWS);
        let sides = self.sides.iter().map(|name| (name.clone(), entries(name))).collect();
        let blocked = entries(BLOCKED).into_iter().map(|(k, v)| (k, words(&v).next().unwrap())).collect();
        let sums = |name: &str| {
            let copies = self.loaded.map(name).ok()?.lookup_per_cpu(&0u32.to_le_bytes()).unwrap().unwrap();
            let mut sums = vec![0; copies[0].len() / 8];
            for copy in &copies {
                for (sum, value) in sums.iter_mut().zip(words(copy)) {
                    *sum += value;
                }
            }
            Some(sums)
        };
        let counters = sums(COUNTERS).unwrap();
        let pairs = nonzero(sums(shadow::MAP).into_iter().flatten());
        let config = self.loaded.map(CONFIG).unwrap().read_value().unwrap();
        let epoch = words(&config[CONFIG_EPOCH as usize..]).next().unwrap();
        let mode = u32::from_le_bytes(*config.first_chunk().unwrap());
        let filter = filter_state(&self.loaded.map(FILTER).unwrap().read_value().unwrap());
        let fuse = fuse_state(&self.loaded.map(FUSE).unwrap().read_value().unwrap());
        let events = self.ring.records();
        State {
            flows,
            sides,
            counters: named(counters.into_iter()),
            blocked,
            epoch,
            mode,
            filter,
            fuse,
            events,
            pairs,
        }
    }

    fn guard(&mut self, filter: &EventFilter, fuse: &Fuse) {
        self.loaded.map(FILTER).unwrap().write_value(&filter_bytes(filter)).unwrap();
        self.loaded.map(FUSE).unwrap().write_value(&fuse_bytes(fuse)).unwrap();
    }
}
