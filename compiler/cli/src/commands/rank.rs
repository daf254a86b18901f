//! `nnbpfc rank SPEC --features CSV --labels COLUMN`: what features are worth, beside what they cost.

use std::fmt::Write as _;

use nnbpf_compiler::diag::codes::rows::FEW_ROWS;
use nnbpf_compiler::diag::{Diagnostic, Origin, Outcome};
use nnbpf_compiler::explain;
use nnbpf_compiler::kernel::KernelVersion;
use nnbpf_compiler::lower::packet::Clock;
use nnbpf_compiler::rows::{self, Columns, Labels};
use nnbpf_compiler::spec;
use serde::Serialize;

use crate::Refusal;
use crate::args::{RankArgs, Split};
use crate::inputs::{Loaded, target};
use crate::rank::{self, Bench, DEPTH, LEAF, LEAST_ROWS, SEED, SHUFFLES};
use crate::uses::Uses;

#[derive(Debug, Serialize)]
struct Report {
    classes: Vec<String>,
    training_rows: usize,
    held_out_rows: usize,
    /// Balanced accuracy on the held-out rows.
    accuracy: f64,
    leaves: usize,
    seed: u64,
    /// The most worthy first.
    features: Vec<Ranked>,
    /// The first features of that order, taken together.
    together: Vec<Together>,
}

#[derive(Debug, Serialize)]
struct Ranked {
    name: String,
    /// Loss of balanced accuracy when the column is shuffled.
    permutation: f64,
    /// Share in the tree's decrease of Gini impurity.
    gini: f64,
    packet_ns: f64,
    verdict_ns: f64,
    record_bytes: i64,
    /// No other feature is worth more for less.
    best_for_its_cost: bool,
    #[serde(skip)]
    index: usize,
}

#[derive(Debug, Serialize)]
struct Together {
    features: usize,
    last: String,
    accuracy: f64,
    packet_ns: f64,
    record_bytes: u32,
}

pub fn run(args: &RankArgs) -> Result<(), Refusal> {
    let target = target(KernelVersion::parse(&args.kernel)?, Split::Auto, Clock::Kernel);
    let source = Loaded::read(&args.spec)?;
    let uses = Uses::of(&args.surroundings, &args.spec);
    let refused =
        |diagnostics| uses.with_sources(Refusal::from(diagnostics).with_source(&source.name, &source.bytes));
    let spec = spec::from_bytes_in(source.named(), &uses.surroundings()).map_err(refused)?;
    let file = Loaded::read(&args.features)?;
    let values = rows::parse(&file.name, &file.bytes, &spec.inputs(), Columns::ByName);
    let labels = rows::labels(&file.name, &file.bytes, &args.labels);
    let (values, labels) = nnbpf_compiler::diag::both(values, labels).map_err(Refusal::from)?;
    enough(&file.name, &labels).map_err(Refusal::from)?;

    let costs = explain::explain(&spec, &target).map_err(refused)?.features;
    let bench = Bench::new(&values.values, values.width, labels.of_rows, labels.names.len());
    let worth = bench.worth();
    let importance = worth.permutation.iter().zip(&worth.gini);
    let mut features: Vec<Ranked> = costs
        .into_iter()
        .zip(importance)
        .enumerate()
        .map(|(index, (cost, (permutation, gini)))| Ranked {
            name: cost.name,
            permutation: *permutation,
            gini: *gini,
            packet_ns: cost.packet_ns,
            verdict_ns: cost.verdict_ns,
            record_bytes: cost.record_bytes,
            best_for_its_cost: false,
            index,
        })
        .collect();
    let pairs: Vec<(f64, f64)> = features.iter().map(|one| (one.permutation, one.packet_ns)).collect();
    for (one, best) in features.iter_mut().zip(rank::front(&pairs)) {
        one.best_for_its_cost = best;
    }
    features.sort_by(|a, b| {
        b.permutation.total_cmp(&a.permutation).then(b.gini.total_cmp(&a.gini)).then(a.index.cmp(&b.index))
    });
    let together = together(&features, |kept| {
        let (ns, bytes) = explain::cost_of_some(&spec, &target, |index| kept.contains(&index))?;
        Ok((bench.accuracy_with(kept), ns, bytes))
    })
    .map_err(refused)?;
    let report = Report {
        classes: labels.names,
        training_rows: worth.training_rows,
        held_out_rows: worth.held_out_rows,
        accuracy: worth.accuracy,
        leaves: worth.leaves,
        seed: SEED,
        features,
        together,
    };
    if args.json {
        // A structure of numbers and names always serialises.
        println!("{}", serde_json::to_string_pretty(&report).unwrap_or_default());
    } else {
        print!("{}", text(&report));
    }
    Ok(())
}

/// Refuses classes of which nothing could be held out.
fn enough(file: &str, labels: &Labels) -> Outcome<()> {
    let few: Vec<Diagnostic> = labels
        .names
        .iter()
        .enumerate()
        .map(|(class, name)| (name, labels.of_rows.iter().filter(|other| **other == class).count()))
        .filter(|(_, rows)| *rows < LEAST_ROWS)
        .map(|(name, rows)| {
            Diagnostic::new(
                &FEW_ROWS,
                Origin::File { file: file.to_owned() },
                format!("only {rows} rows have the label `{name}`, of {LEAST_ROWS} that are needed"),
                "add rows of this class, drop it, or join it with another",
            )
        })
        .collect();
    if few.is_empty() { Ok(()) } else { Err(few) }
}

/// The first features of the order taken together, as far as the tree used them.
fn together(
    order: &[Ranked],
    mut measure: impl FnMut(&[usize]) -> Outcome<(f64, f64, u32)>,
) -> Outcome<Vec<Together>> {
    let mut kept = Vec::new();
    let mut all = Vec::new();
    for one in order.iter().filter(|one| one.gini > 0.0) {
        kept.push(one.index);
        let (accuracy, packet_ns, record_bytes) = measure(&kept)?;
        all.push(Together {
            features: kept.len(),
            last: one.name.clone(),
            accuracy,
            packet_ns,
            record_bytes,
        });
    }
    Ok(all)
}

/// Writing to a string cannot fail, so results are dropped.
fn text(report: &Report) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "a tree on {} rows of {} classes: {} leaves (depth {DEPTH}, leaves of {LEAF} rows), balanced accuracy {:.4} on \
         {} rows held out",
        report.training_rows,
        report.classes.len(),
        report.leaves,
        report.accuracy,
        report.held_out_rows
    );
    let _ = writeln!(
        out,
        "permutation: what {SHUFFLES} shuffles of the column cost in balanced accuracy; gini: share in the tree; seed \
         {SEED}"
    );
    let _ = writeln!(
        out,
        "\n{:28} {:>11} {:>7} {:>9} {:>10} {:>6}",
        "feature", "permutation", "gini", "packet ns", "verdict ns", "bytes"
    );
    for one in &report.features {
        let line = format!(
            "{:28} {:>11.4} {:>7.4} {:>9.1} {:>10.1} {:>6}  {}",
            one.name,
            zero(one.permutation),
            one.gini,
            zero(one.packet_ns),
            zero(one.verdict_ns),
            one.record_bytes,
            if one.best_for_its_cost { "best for its cost" } else { "" }
        );
        let _ = writeln!(out, "{}", line.trim_end());
    }
    let _ = writeln!(
        out,
        "\n{:>8} {:>9} {:>9} {:>12}  with",
        "features", "accuracy", "packet ns", "record bytes"
    );
    for some in &report.together {
        let _ = writeln!(
            out,
            "{:>8} {:>9.4} {:>9.1} {:>12}  {}{}",
            some.features,
            some.accuracy,
            some.packet_ns,
            some.record_bytes,
            if some.features == 1 { "" } else { "and " },
            some.last
        );
    }
    out
}

/// Shows what rounds to zero as zero, without a sign.
fn zero(value: f64) -> f64 {
    if value.abs() < 0.000_05 { 0.0 } else { value }
}
