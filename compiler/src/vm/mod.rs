//! A user-space virtual machine for the emitted bytecode: the second oracle.
//!
//! It assembles a [`Module`] itself, decodes the bytes once, and executes them with the kernel's semantics in a
//! memory where every access is checked. What the verifier would refuse shows as a [`Fault`] with its instruction,
//! or reads poison: uninitialised stack, registers after calls. The verifier's other rules (bounds proofs, stack
//! depth over frames, leaked pointers) are the kernel's to check.
//!
//! ```
//! # use nnbpf_compiler::bpf::module::{Function, Line, Module};
//! # use nnbpf_compiler::bpf::{asm::*, Reg};
//! # use nnbpf_compiler::vm::Vm;
//! # let code: Vec<nnbpf_compiler::bpf::Insn<Reg>> = vec![mov(Reg::R0, 2), exit()];
//! # let main = Function {
//! #     name: "main".into(), section: "xdp".into(), line_of: vec![0; code.len()], code,
//! #     lines: vec![Line::default()], parameters: vec![],
//! # };
//! let module = Module { programs: vec![main], ..Module::default() };
//! let mut vm = Vm::new(&module)?;
//! let run = vm.run("main", &mut vec![0; 64], 0)?;
//! assert_eq!((run.ret, run.executed), (2, 2));
//! # Ok::<(), nnbpf_compiler::vm::VmError>(())
//! ```

mod error;
mod memory;
mod alu;
mod context;
mod maps;
mod image;
mod helpers;
mod profile;
mod machine;

#[cfg(test)]
mod tests;

pub use context::{Skb, Tag};
pub use error::{Fault, MapError, VmError};
pub use maps::UpdateMode;
pub use profile::{Executed, HelperCall, Profile};

use crate::bpf::module::{MapKind, Module};
use image::Image;
use machine::Machine;
use maps::Maps;
use profile::Recorder;

/// A loaded module with the state of its maps.
#[derive(Debug)]
pub struct Vm {
    image: Image,
    maps: Maps,
}

/// A finished run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// `r0` at the outermost exit; the kernel reports its low 32 bits.
    pub ret: u64,
    /// Instructions executed, over all calls and tail calls.
    pub executed: u64,
    /// The packet's mark, at the hooks of tc.
    pub mark: u32,
}

/// A map as the host sees it.
#[derive(Debug)]
pub struct Map<'a> {
    maps: &'a mut Maps,
    map: usize,
}

impl Vm {
    /// Loads a module: creates its maps, assembles its functions, resolves references, fills program arrays.
    ///
    /// # Errors
    ///
    /// When the module does not assemble, refers to what it does not define, or has a map that the kernel would
    /// not create.
    pub fn new(module: &Module) -> Result<Self, VmError> {
        let maps = Maps::new(module)?;
        let image = Image::new(module, &maps)?;
        let mut vm = Self { image, maps };
        for map in module.maps.iter().filter(|map| map.kind == MapKind::ProgArray) {
            for (slot, program) in &map.programs {
                vm.set_program(&map.name, *slot, Some(program))?;
            }
        }
        Ok(vm)
    }

    /// Runs a program on a packet, which it may change. `clock_ns` is what `bpf_ktime_get_ns` gives.
    ///
    /// # Errors
    ///
    /// When there is no such program, or when the run faults. Maps keep what was written until then.
    pub fn run(&mut self, program: &str, packet: &mut Vec<u8>, clock_ns: u64) -> Result<Run, VmError> {
        self.run_skb(program, packet, Skb::default(), clock_ns)
    }

    /// Runs a program on a packet that lies in its socket buffer like this, which programs of XDP do not see.
    ///
    /// # Errors
    ///
    /// Those of [`Vm::run`].
    pub fn run_skb(
        &mut self,
        program: &str,
        packet: &mut Vec<u8>,
        skb: Skb,
        clock_ns: u64,
    ) -> Result<Run, VmError> {
        self.start(program, packet, skb, clock_ns, None)
    }

    /// Runs a program on a packet as [`Vm::run`] does, and counts what it executes.
    ///
    /// # Errors
    ///
    /// Those of [`Vm::run`].
    pub fn profile(
        &mut self,
        program: &str,
        packet: &mut Vec<u8>,
        clock_ns: u64,
    ) -> Result<(Run, Profile), VmError> {
        let mut recorder = Recorder::new(&self.image);
        let run = self.start(program, packet, Skb::default(), clock_ns, Some(&mut recorder))?;
        Ok((run, recorder.finish(&self.image, &self.maps)))
    }

    fn start(
        &mut self,
        program: &str,
        packet: &mut Vec<u8>,
        skb: Skb,
        clock_ns: u64,
        recorder: Option<&mut Recorder>,
    ) -> Result<Run, VmError> {
        let unknown = || VmError::UnknownName { name: program.to_owned() };
        let placed = self.image.functions.iter().find(|placed| placed.name == program).ok_or_else(unknown)?;
        let context = placed.context.ok_or_else(unknown)?;
        self.maps.memory.swap_packet(packet);
        let mut machine = Machine::new(&self.image, &mut self.maps, context, skb, clock_ns);
        machine.recorder = recorder;
        let result = machine.run(placed.start);
        let (at, executed, mark) = (machine.at, machine.executed, machine.skb.mark);
        self.maps.memory.swap_packet(packet);
        match result {
            Ok(ret) => Ok(Run { ret, executed, mark }),
            Err(fault) => {
                let (function, at) = self.image.locate(at);
                Err(VmError::Fault { function, at, fault })
            }
        }
    }

    /// A map by name; `None` when the module has none of this name. Data sections are [`Vm::data`].
    pub fn map(&mut self, name: &str) -> Option<Map<'_>> {
        let map = self.maps.position(name)?;
        Some(Map { maps: &mut self.maps, map })
    }

    /// The bytes of a data section such as `.data.nn_params`.
    #[must_use]
    pub fn data(&self, section: &str) -> Option<&[u8]> {
        self.maps.memory.element(self.maps.data(section)?, 0)
    }

    /// The bytes of a data section to write, read-only sections included.
    pub fn data_mut(&mut self, section: &str) -> Option<&mut [u8]> {
        let region = self.maps.data(section)?;
        self.maps.memory.element_mut(region, 0)
    }

    /// Sets or empties a slot of a program array.
    ///
    /// # Errors
    ///
    /// When the map is no program array with this slot, or there is no such program.
    pub fn set_program(&mut self, map: &str, slot: u32, program: Option<&str>) -> Result<(), VmError> {
        let unknown = |name: &str| VmError::UnknownName { name: name.to_owned() };
        let target = match program {
            Some(name) => {
                let found = self
                    .image
                    .functions
                    .iter()
                    .position(|placed| placed.name == name && placed.context.is_some());
                Some(found.ok_or_else(|| unknown(name))?)
            }
            None => None,
        };
        let position = self.maps.position(map).ok_or_else(|| unknown(map))?;
        let slots = self.maps.programs_mut(position);
        match slots.and_then(|slots| slots.get_mut(slot as usize)) {
            Some(place) => {
                *place = target;
                Ok(())
            }
            None => Err(VmError::BadMap { map: map.to_owned(), reason: "no program array with this slot" }),
        }
    }
}

impl Map<'_> {
    /// The value of a key, as the system call reads it: not a use in the sense of eviction, and the longest
    /// matching prefix for tries.
    #[must_use]
    pub fn get(&mut self, key: &[u8]) -> Option<&[u8]> {
        self.maps.host_lookup(self.map, key).map(|value| &*value)
    }

    /// The value of a key to write in place.
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut [u8]> {
        self.maps.host_lookup(self.map, key)
    }

    /// The value at an index of an array or per-CPU array.
    #[must_use]
    pub fn at(&mut self, index: u32) -> Option<&[u8]> {
        self.maps.host_lookup(self.map, &index.to_le_bytes()).map(|value| &*value)
    }

    /// The value at an index of an array or per-CPU array, to write in place.
    pub fn at_mut(&mut self, index: u32) -> Option<&mut [u8]> {
        self.maps.host_lookup(self.map, &index.to_le_bytes())
    }

    /// Stores a value.
    ///
    /// # Errors
    ///
    /// Those of the kernel's system call.
    pub fn update(&mut self, key: &[u8], value: &[u8], mode: UpdateMode) -> Result<(), MapError> {
        self.maps.host_update(self.map, key, value, mode)
    }

    /// Removes a key.
    ///
    /// # Errors
    ///
    /// Those of the kernel's system call; arrays cannot remove.
    pub fn delete(&mut self, key: &[u8]) -> Result<(), MapError> {
        self.maps.host_delete(self.map, key)
    }

    /// All keys and values, in ascending order of key bytes (arrays: of the index).
    #[must_use]
    pub fn entries(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.maps.host_entries(self.map)
    }

    /// Takes the records of a ring buffer, oldest first; makes room for more.
    #[must_use]
    pub fn records(&mut self) -> Vec<Vec<u8>> {
        self.maps.host_records(self.map)
    }
}
