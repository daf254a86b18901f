//! Conditions of groups: a decision diagram as tests and jumps that only go forward.
//!
//! [`plan`] says which tests there are. What a test reads is a copy that is dead behind it and says nothing about
//! the original, so that paths which meet again are alike to the verifier.

use super::path::Path;
use crate::bpf::{Cond, Label, Operand};
use crate::ir::flow::decision::{Diagram, Edge, Node, Target, Variable};
use crate::lower::code::VReg;
use crate::spec::typed::Field;

/// What a step looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Backward,
    /// These bits of the TCP flags.
    Flags(u8),
    Field(Field),
}

/// A comparison of the subject with a constant, and where to go when it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Test {
    cond: Cond,
    value: u64,
    target: Target,
}

/// The tests of a node, of a chain of nodes about flags.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    node: usize,
    subject: Subject,
    tests: Vec<Test>,
    /// Where to go when no test holds.
    otherwise: Target,
}

impl Path<'_> {
    /// Jumps to `skip` when the packet does not fulfil the condition.
    /// `backward` is 1 for a packet that goes backwards in its flow.
    pub(super) fn condition(&mut self, backward: VReg, diagram: &Diagram, skip: Label) {
        let steps = plan(diagram);
        let labels: Vec<Label> = diagram.nodes().iter().map(|_| self.b.label()).collect();
        let pass = self.b.label();
        let label = |target| match target {
            Target::Answer(true) => pass,
            Target::Answer(false) => skip,
            Target::Node(index) => labels.get(index).copied().unwrap_or(skip),
        };
        for (at, step) in steps.iter().enumerate() {
            self.b.bind(label(Target::Node(step.node)));
            let subject = match step.subject {
                Subject::Backward => self.direction_of(backward),
                Subject::Flags(mask) => {
                    let flags = self.field(Field::TcpFlags);
                    self.b.and(flags, i32::from(mask));
                    flags
                }
                Subject::Field(field) => self.field(field),
            };
            // The verifier knows nothing of what was loaded: what it knew of the value, and what a comparison would
            // teach it, would tell the paths that meet again apart.
            for test in &step.tests {
                let value: Operand<_> = match i32::try_from(test.value) {
                    Ok(small) => Operand::Imm(small),
                    Err(_) => Operand::Reg(self.b.constant(test.value.cast_signed())),
                };
                self.b.jump(test.cond, subject, value, label(test.target));
            }
            let next = steps.get(at + 1).map_or(Target::Answer(true), |next| Target::Node(next.node));
            if step.otherwise != next {
                self.b.goto(label(step.otherwise));
            }
        }
        self.b.bind(pass);
    }
}

/// The steps in the order in which they stand, the first one first.
fn plan(diagram: &Diagram) -> Vec<Step> {
    let nodes = diagram.nodes();
    let mut wanted = vec![false; nodes.len()];
    want(&mut wanted, diagram.start());
    let mut steps: Vec<Step> = Vec::new();
    for (index, node) in nodes.iter().enumerate().rev() {
        if !wanted.get(index).copied().unwrap_or(false) {
            continue;
        }
        let step = step(nodes, index, node);
        for target in step.tests.iter().map(|test| test.target).chain([step.otherwise]) {
            want(&mut wanted, target);
        }
        steps.push(step);
    }
    let after: Vec<Target> =
        steps.iter().skip(1).map(|step| Target::Node(step.node)).chain([Target::Answer(true)]).collect();
    for (step, next) in steps.iter_mut().zip(after) {
        fall_through(step, next);
    }
    steps
}

fn want(wanted: &mut [bool], target: Target) {
    if let Target::Node(index) = target
        && let Some(wanted) = wanted.get_mut(index)
    {
        *wanted = true;
    }
}

/// Where the last test leads to what follows anyway, its opposite leads away.
fn fall_through(step: &mut Step, next: Target) {
    if let Some(last) = step.tests.last_mut()
        && last.target == next
        && step.otherwise != next
    {
        *last = Test { cond: opposite(last.cond), value: last.value, target: step.otherwise };
        step.otherwise = next;
    }
}

const fn opposite(cond: Cond) -> Cond {
    match cond {
        Cond::Eq => Cond::Ne,
        Cond::Ne => Cond::Eq,
        Cond::Le => Cond::Gt,
        Cond::Gt => Cond::Le,
        Cond::Ge => Cond::Lt,
        Cond::Lt => Cond::Ge,
        Cond::Sle => Cond::Sgt,
        Cond::Sgt => Cond::Sle,
        Cond::Sge => Cond::Slt,
        Cond::Slt => Cond::Sge,
        // No plan has it; it has no opposite.
        Cond::Set => Cond::Set,
    }
}

fn step(nodes: &[Node], index: usize, node: &Node) -> Step {
    match node.variable {
        Variable::Backward => {
            let (tests, otherwise) = intervals(&node.edges);
            Step { node: index, subject: Subject::Backward, tests, otherwise }
        }
        Variable::Field(field) => {
            let (tests, otherwise) = intervals(&node.edges);
            Step { node: index, subject: Subject::Field(field), tests, otherwise }
        }
        Variable::Flag(_) => flags(nodes, index, node),
    }
}

/// Nodes about flags that lead on for one value and to the same place for the other are one test of all bits.
fn flags(nodes: &[Node], index: usize, node: &Node) -> Step {
    let parts = |node: &Node| match (node.variable, node.edges.as_slice()) {
        (Variable::Flag(bit), [clear, set]) => Some((bit, clear.target, set.target)),
        _ => None,
    };
    let Some((bit, clear, set)) = parts(node) else {
        return Step {
            node: index,
            subject: Subject::Flags(0),
            tests: Vec::new(),
            otherwise: Target::Answer(false),
        };
    };
    // Longest chain with either side as the place to leave to.
    let chain = |leave: Target, mut on: Target, wanted: bool| {
        let (mut mask, mut value, mut length) = (bit, if wanted { bit } else { 0 }, 1);
        while let Target::Node(next) = on
            && let Some((bit, clear, set)) = nodes.get(next).and_then(parts)
        {
            let (wanted, further) = match (clear == leave, set == leave) {
                (true, false) => (true, set),
                (false, true) => (false, clear),
                (true, true) | (false, false) => break,
            };
            mask |= bit;
            value |= if wanted { bit } else { 0 };
            length += 1;
            on = further;
        }
        let tests = vec![Test { cond: Cond::Ne, value: u64::from(value), target: leave }];
        (length, Step { node: index, subject: Subject::Flags(mask), tests, otherwise: on })
    };
    let (with_set, with_clear) = (chain(clear, set, true), chain(set, clear, false));
    if with_set.0 >= with_clear.0 { with_set.1 } else { with_clear.1 }
}

/// Tests that find the interval of a value: first single values between intervals that lead to the same place,
/// then upper ends.
fn intervals(edges: &[Edge]) -> (Vec<Test>, Target) {
    let mut edges = edges.to_vec();
    let mut tests = Vec::new();
    let mut at = 1;
    while let Some([before, this, after]) = edges.get(at - 1..at + 2) {
        let single = this.upto - before.upto == 1 && before.target == after.target;
        if single {
            tests.push(Test { cond: Cond::Eq, value: this.upto, target: this.target });
            edges.drain(at - 1..=at);
            at = at.max(2) - 1;
        } else {
            at += 1;
        }
    }
    let last = edges.pop();
    let lower = edges.iter().enumerate().map(|(at, edge)| {
        // The lowest value alone is as cheap to compare with, and reads better.
        let cond = if at == 0 && edge.upto == 0 { Cond::Eq } else { Cond::Le };
        Test { cond, value: edge.upto, target: edge.target }
    });
    tests.extend(lower);
    (tests, last.map_or(Target::Answer(false), |edge| edge.target))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::flow::decision::Diagram;

    /// Follows the steps as the program would.
    fn run(
        steps: &[Step],
        diagram: &Diagram,
        flags: u8,
        backward: bool,
        field: impl Fn(Field) -> u64,
    ) -> bool {
        let mut at = diagram.start();
        loop {
            let index = match at {
                Target::Answer(answer) => return answer,
                Target::Node(index) => index,
            };
            let step = steps.iter().find(|step| step.node == index).unwrap();
            let value = match step.subject {
                Subject::Backward => u64::from(backward),
                Subject::Flags(mask) => u64::from(flags & mask),
                Subject::Field(wanted) => field(wanted),
            };
            let holds = |test: &&Test| match test.cond {
                Cond::Eq => value == test.value,
                Cond::Ne => value != test.value,
                Cond::Le => value <= test.value,
                Cond::Gt => value > test.value,
                Cond::Ge | Cond::Lt | Cond::Set | Cond::Sgt | Cond::Sge | Cond::Slt | Cond::Sle => {
                    panic!("{:?}", test.cond)
                }
            };
            at = step.tests.iter().find(holds).map_or(step.otherwise, |test| test.target);
        }
    }

    fn port(holds: impl Fn(u64) -> bool, ends: &[u64]) -> Diagram {
        Diagram::ask(Variable::Field(Field::DstPort), ends, holds)
    }

    #[test]
    fn a_single_value_and_several_flags_are_one_test_each() {
        let web = port(|value| value == 443, &[442, 443, 65_535]);
        let steps = plan(&web);
        assert_eq!(steps.len(), 1);
        assert_eq!(steps[0].tests, [Test { cond: Cond::Ne, value: 443, target: Target::Answer(false) }]);
        let some = Diagram::flag(1, true).or(&Diagram::flag(4, true)).unwrap();
        let steps = plan(&some);
        assert_eq!(steps.len(), 1);
        assert_eq!(steps[0].subject, Subject::Flags(5));
        // Neither bit: on to the end of the condition, which is no.
        assert_eq!(steps[0].tests, [Test { cond: Cond::Eq, value: 0, target: Target::Answer(false) }]);
    }

    #[test]
    fn steps_decide_like_the_diagram() {
        let ports = port(|v| v == 22 || (80..=443).contains(&v) || v == 0, &[0, 21, 22, 79, 443, 65_535]);
        let low = Diagram::ask(Variable::Field(Field::IpTtl), &[63, 255], |v| v <= 63);
        let syn = Diagram::flag(2, true).and(&Diagram::flag(16, false)).unwrap();
        let forward = Diagram::direction(crate::spec::typed::Direction::Forward);
        let first = forward.and(&ports).unwrap().or(&syn).unwrap();
        let second = syn.and(&low).unwrap().or(&ports.not()).unwrap().or(&Diagram::flag(8, true)).unwrap();
        for diagram in [first.clone(), second.clone(), first.and(&second.not()).unwrap()] {
            let steps = plan(&diagram);
            for (flags, backward) in (0..32).flat_map(|flags| [(flags, false), (flags, true)]) {
                for (port, ttl) in [0, 1, 21, 22, 23, 79, 80, 443, 444, 65_535]
                    .into_iter()
                    .zip([0, 63, 64].into_iter().cycle())
                {
                    let field = |field| if field == Field::IpTtl { ttl } else { port };
                    let wanted = diagram.holds(|variable| match variable {
                        Variable::Backward => u64::from(backward),
                        Variable::Flag(bit) => u64::from(flags & bit != 0),
                        Variable::Field(of) => field(of),
                    });
                    assert_eq!(run(&steps, &diagram, flags, backward, field), wanted);
                }
            }
        }
    }
}
