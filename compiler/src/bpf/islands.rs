//! Leads jumps beyond the reach of a 16-bit offset over islands: unconditional jumps placed on the way, which
//! ordinary control flow steps over. Where none arrives, behind another island for instance, there is no step:
//! verifiers refuse instructions that nothing reaches.

use super::assemble::{AssembleErrorKind, At, Layout};
use super::{Insn, Label, Reg};

/// How far from the jump an island is placed. Less than the reach, so that islands inserted in between later
/// do not push it out of reach again.
const STRIDE: i64 = 30_000;

/// Slots of one island at most: the step over it and the jump on.
const ISLAND_SLOTS: usize = 2;

/// Inserts islands until every jump reaches its target. `line_of` is parallel to `code` and grows with it.
pub(super) fn extend(code: &[Insn<Reg>], line_of: &[u32]) -> Result<(Vec<Insn<Reg>>, Vec<u32>), At> {
    let mut code = code.to_vec();
    let mut line_of = line_of.to_vec();
    let mut next = code
        .iter()
        .filter_map(|insn| if let Insn::Label(label) = insn { Some(label.0.saturating_add(1)) } else { None })
        .max()
        .unwrap_or_default();
    // Islands by the label that they lead to.
    let mut islands: Vec<(Label, Label)> = Vec::new();
    // Every round serves one jump for good unless thousands of islands come to stand in between.
    let rounds = code.len().saturating_mul(ISLAND_SLOTS);
    for _ in 0..rounds {
        let layout = Layout::of(&code)?;
        let Some((position, target)) = layout.too_far(&code) else { return Ok((code, line_of)) };
        let distance = layout.distance(position, target).unwrap_or_default();
        let shared = islands.iter().find(|(island, leads_to)| {
            *leads_to == target
                && layout.distance(position, *island).is_some_and(|way| {
                    way.signum() == distance.signum() && (STRIDE / 2..=STRIDE).contains(&way.abs())
                })
        });
        let island = match shared {
            Some((island, _)) => *island,
            None => {
                let island = Label(next);
                let over = Label(next.saturating_add(1));
                next = next.saturating_add(2);
                islands.push((island, target));
                let from = i64::from(layout.slot_of.get(position).copied().unwrap_or_default());
                let place = from + distance.signum() * STRIDE;
                let index = layout.slot_of.partition_point(|&slot| i64::from(slot) < place);
                let line = line_of.get(index).copied().unwrap_or_default();
                let mut island_code = vec![Insn::Label(island), Insn::Goto { target }];
                if arrives(&code, index) {
                    island_code.insert(0, Insn::Goto { target: over });
                    island_code.push(Insn::Label(over));
                }
                let elements = island_code.len();
                code.splice(index..index, island_code);
                line_of.splice(index..index, vec![line; elements]);
                // The jump itself moved when the island went in before it.
                let moved = if index <= position { position + elements } else { position };
                retarget(&mut code, moved, island);
                continue;
            }
        };
        retarget(&mut code, position, island);
    }
    let layout = Layout::of(&code)?;
    match layout.too_far(&code) {
        Some((position, label)) => Err((position, AssembleErrorKind::JumpTooFar(label))),
        None => Ok((code, line_of)),
    }
}

/// Whether the element before this position goes on to it.
fn arrives(code: &[Insn<Reg>], index: usize) -> bool {
    let before = index.checked_sub(1).and_then(|before| code.get(before));
    !matches!(before, Some(Insn::Goto { .. } | Insn::Exit))
}

fn retarget(code: &mut [Insn<Reg>], position: usize, label: Label) {
    if let Some(Insn::Goto { target } | Insn::Jump { target, .. }) = code.get_mut(position) {
        *target = label;
    }
}
