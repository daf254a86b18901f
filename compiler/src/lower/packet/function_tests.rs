//! The functions of features in the virtual machine, over all that records can hold: captures hold small flows.

use proptest::prelude::*;

use super::{distinct, rate, root};
use crate::bpf::asm::{call_function, exit, ld_imm64};
use crate::bpf::module::{Function, Line, Module};
use crate::bpf::{Insn, Reg};
use crate::ir::flow::distinct::estimate as eval_estimate;
use crate::ir::flow::{GAP_LIMIT_NANOS, SAMPLE_LIMIT, SAMPLE_LIMIT_NANOS, eval};
use crate::spec::typed::Bitmap;
use crate::vm::Vm;

/// What a function returns.
fn call(functions: Vec<Function>, name: &str, arguments: &[u64]) -> u64 {
    let registers = [Reg::R1, Reg::R2, Reg::R3, Reg::R4, Reg::R5];
    let mut code: Vec<Insn<Reg>> =
        registers.into_iter().zip(arguments).map(|(register, value)| ld_imm64(register, *value)).collect();
    code.extend([call_function(name), exit()]);
    let main = Function {
        name: "main".to_owned(),
        section: "xdp".to_owned(),
        line_of: vec![0; code.len()],
        code,
        lines: vec![Line::default()],
        parameters: Vec::new(),
    };
    let module = Module { programs: vec![main], functions, ..Module::default() };
    Vm::new(&module).unwrap().run("main", &mut Vec::new(), 0).unwrap().ret
}

/// `nn_var` of sums.
fn variance(n: u64, sum: u64, squares: u128, population: bool) -> u64 {
    let divisor = n.wrapping_mul(if population { n } else { n.wrapping_sub(1) });
    let functions = vec![root::variance().unwrap(), root::division().unwrap()];
    let halves = [squares as u64, (squares >> 64) as u64];
    call(functions, root::VARIANCE, &[n, sum, halves[0], halves[1], divisor])
}

fn rate(sum: u64, nanos: u64) -> u64 {
    call(vec![rate::function().unwrap(), root::division().unwrap()], rate::FUNCTION, &[sum, nanos])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn variances_are_those_of_the_interpreter(
        nanos: bool,
        ones in 0_u64..SAMPLE_LIMIT / 2,
        others in 0_u64..SAMPLE_LIMIT / 2,
        a in 0..=GAP_LIMIT_NANOS,
        b in 0..=GAP_LIMIT_NANOS,
        shrink in 0_u32..32,
        population: bool,
    ) {
        let (ones, others, a, b) = if nanos {
            (ones % (SAMPLE_LIMIT_NANOS / 2), others % (SAMPLE_LIMIT_NANOS / 2), a >> shrink, b >> shrink)
        } else {
            (ones >> shrink, others >> (shrink / 2), a >> 24, b >> 24)
        };
        let (n, sum) = (ones + others, ones * a + others * b);
        let squares = [(ones, a), (others, b)].map(|(n, x)| u128::from(n) * u128::from(x).pow(2)).iter().sum();
        prop_assert_eq!(variance(n, sum, squares, population), eval::var(n, sum, squares, population));
        // Sums that do not belong together.
        prop_assert_eq!(variance(n, sum, 1, population), eval::var(n, sum, 1, population));
    }

    #[test]
    fn rates_are_those_of_the_interpreter(sum in 0_u64..1 << 63, nanos in 0_u64..1 << 53, a in 0_u32..63, b in 0_u32..53) {
        let (sum, nanos) = (sum >> a, nanos >> b);
        prop_assert_eq!(rate(sum, nanos), eval::rate(sum, nanos));
    }
}

#[test]
fn estimates_are_those_of_the_interpreter() {
    for log in 6..=12_u8 {
        for set in (0..=1 << log).step_by(1 << (log - 6)) {
            let raw = call(
                vec![distinct::function().unwrap()],
                distinct::FUNCTION,
                &[u64::from(set), u64::from(log)],
            );
            assert_eq!(raw, eval_estimate(set, Bitmap(log)), "{set} of 2^{log}");
        }
    }
}

#[test]
fn rates_at_the_ends() {
    for sum in [0, 1, 35_184_372, 35_184_373, u64::MAX >> 1] {
        for nanos in [0, 1, 2, 1_000_000_000, (1 << 53) - 1] {
            assert_eq!(rate(sum, nanos), eval::rate(sum, nanos), "{sum} in {nanos} ns");
        }
    }
}
