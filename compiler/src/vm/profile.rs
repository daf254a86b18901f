//! What a run executed, counted: every instruction and every helper call. Ordinary runs count nothing.

use super::image::Image;
use super::maps::Maps;
use super::memory::map_of_handle;
use crate::bpf::Helper;
use crate::bpf::module::MapKind;
use crate::bpf::table::Shape;

/// Everything that one run executed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Profile {
    /// Instructions that were executed at least once, in the order of the code.
    pub steps: Vec<Executed>,
    /// Helper calls that returned, in the order in which they were made.
    pub calls: Vec<HelperCall>,
}

/// An instruction at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// The function that it stands in.
    pub function: String,
    pub shape: Shape,
    pub times: u64,
}

/// One call of a helper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelperCall {
    /// The function that made it.
    pub function: String,
    pub helper: Helper,
    /// The map in the first argument.
    pub map: Option<(String, MapKind)>,
    /// What it gave: for lookups 0 when nothing was found.
    pub result: u64,
}

/// The counts of a run while it goes on.
#[derive(Debug)]
pub(super) struct Recorder {
    counts: Vec<u64>,
    calls: Vec<RawCall>,
}

/// A call with its first argument.
#[derive(Debug)]
struct RawCall {
    at: usize,
    helper: Helper,
    first: u64,
    result: u64,
}

impl Recorder {
    pub(super) fn new(image: &Image) -> Self {
        Self { counts: vec![0; image.code.len()], calls: Vec::new() }
    }

    pub(super) fn step(&mut self, at: usize) {
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
    }

    pub(super) fn call(&mut self, at: usize, helper: Helper, first: u64, result: u64) {
        self.calls.push(RawCall { at, helper, first, result });
    }

    /// With the names of functions and maps.
    pub(super) fn finish(self, image: &Image, maps: &Maps) -> Profile {
        let steps = self
            .counts
            .iter()
            .enumerate()
            .filter(|(_, times)| **times > 0)
            .filter_map(|(at, times)| {
                let step = image.code.get(at)?;
                Some(Executed { function: image.locate(at).0, shape: step.shape, times: *times })
            })
            .collect();
        let calls = self.calls.into_iter().map(|call| HelperCall {
            function: image.locate(call.at).0,
            helper: call.helper,
            map: map_of_handle(call.first).and_then(|map| maps.name_and_kind(map)),
            result: call.result,
        });
        Profile { steps, calls: calls.collect() }
    }
}
