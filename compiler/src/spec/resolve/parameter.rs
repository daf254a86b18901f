//! Second arguments of aggregate functions, which say how to aggregate and not what.

use super::number;
use crate::diag::codes::spec as codes;
use crate::spec::ast::{Call, Expr, ExprKind, Name};
use crate::spec::report::Reporter;
use crate::spec::typed::{Bitmap, Function, Weight};

/// The function with its parameter, and the arguments before that; `None` when something was reported.
pub(super) fn split<'a>(
    function: Function,
    call: &'a Call,
    reporter: &mut Reporter<'_>,
) -> Option<(Function, &'a [Expr])> {
    match function {
        Function::Ewma(_) => weighted(call, reporter),
        Function::Distinct(_) => sketched(call, reporter),
        Function::Count
        | Function::Sum
        | Function::Min
        | Function::Max
        | Function::First
        | Function::Last
        | Function::Mean
        | Function::Std
        | Function::StdPop
        | Function::Var
        | Function::VarPop
        | Function::Rate
        | Function::Duration => Some((function, &call.arguments)),
    }
}

/// A sound call of the function.
pub(super) fn example(function: Function, name: &Name) -> String {
    let name = &name.text;
    match function {
        Function::Ewma(Weight(shift)) => format!("{name}(l4.payload_len, 1/{})", 1_u32 << shift),
        Function::Distinct(_) => format!("{name}(l4.dst_port)"),
        Function::Count
        | Function::Sum
        | Function::Min
        | Function::Max
        | Function::First
        | Function::Last
        | Function::Mean
        | Function::Std
        | Function::StdPop
        | Function::Var
        | Function::VarPop
        | Function::Rate
        | Function::Duration => format!("{name}(l4.payload_len)"),
    }
}

/// `ewma(OPERAND, 1/8)`.
fn weighted<'a>(call: &'a Call, reporter: &mut Reporter<'_>) -> Option<(Function, &'a [Expr])> {
    let [_, parameter] = call.arguments.as_slice() else {
        reporter.error(
            &codes::ARGUMENTS,
            call.function.span.clone(),
            "`ewma` takes two arguments: a field and the weight of each new value",
            "write `ewma(l4.payload_len, 1/8)`",
        );
        return None;
    };
    let Some(weight) = weight(parameter) else {
        reporter
            .error(
                &codes::ARGUMENTS,
                parameter.span.clone(),
                "a weight is one of 1/2, 1/4, 1/8, 1/16, 1/32, 1/64, 1/128 and 1/256",
                "write `1/8`; the smaller the weight, the longer the memory",
            )
            .primary("not one of these");
        return None;
    };
    Some((Function::Ewma(weight), call.arguments.get(..1).unwrap_or_default()))
}

/// `distinct(OPERAND)` or `distinct(OPERAND, BITS)`.
fn sketched<'a>(call: &'a Call, reporter: &mut Reporter<'_>) -> Option<(Function, &'a [Expr])> {
    let [operand, parameter] = call.arguments.as_slice() else {
        return Some((Function::Distinct(Bitmap::DEFAULT), &call.arguments));
    };
    let bits = whole(parameter);
    let Some(bitmap) = (6..=12).find(|log| bits == Some(1 << log)).map(Bitmap) else {
        reporter
            .error(
                &codes::ARGUMENTS,
                parameter.span.clone(),
                "a bitmap has 64, 128, 256, 512, 1024, 2048 or 4096 bits",
                "write the size nearest to the number of values that still matters; without it, there are 256",
            )
            .primary("not one of these");
        return None;
    };
    Some((Function::Distinct(bitmap), std::slice::from_ref(operand)))
}

/// `1/2^n` with `n` from 1 to 8.
fn weight(expr: &Expr) -> Option<Weight> {
    let ExprKind::Product(members) = &expr.kind else { return None };
    let [(_, one), (operator, divisor)] = members.as_slice() else { return None };
    if operator.text != "/" || whole(one)? != 1 {
        return None;
    }
    let divisor = whole(divisor)?;
    (1..=8).find(|shift| divisor == 1 << shift).map(Weight)
}

/// A whole number as it is written.
fn whole(expr: &Expr) -> Option<i128> {
    let ExprKind::Number(number) = &expr.kind else { return None };
    number::scaled(number, 1).ok()
}
