//! The corpus in integers: labels of the reference interpreter beside the reference outputs, as `docs/import.md` lists
//! them. `BLESS=1` rewrites the list.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use onnx_protobuf::ModelProto as Independent;
use protobuf::Message as _;

use super::corpus::{
    Folder, Meaning, corpus, is_left_out, last_rounding, meaning, models, reference_of, rows,
};
use super::npz;
use crate::compile::{self, Named, Plan, Sources};
use crate::ir::interpret;
use crate::model::{Head, Model};
use crate::quant::Options;
use crate::rows::{self as features, Columns};
use crate::spec::Surroundings;

/// Where the list stands in the document.
const MARKER: &str = "<!-- corpus: written by `BLESS=1 cargo test -p nnbpf-compiler --lib agreement` -->\n";
/// Part of the rows of a file on which labels must agree, ties aside.
const AGREEMENT: f64 = 0.995;
/// Rows whose reference scores are nearer than this, relative to the largest one, are ties.
const TIE: f64 = 1e-4;
/// Largest error of a regressor, relative to the range of its predictions.
const REGRESSOR_ERROR: f64 = 0.01;

/// How a model does over the rows of its reference.
#[derive(Debug, Default)]
struct Agreement {
    rows: usize,
    /// Rows of another label.
    flips: usize,
    /// Those of them near a tie.
    ties: usize,
    /// Largest error of a regressor.
    error: Option<f64>,
}

impl Agreement {
    /// Without rows to calibrate on, one row may be wrong however few there are.
    fn holds(&self, calibrated: bool) -> bool {
        let wrong = self.flips - self.ties;
        let labels = wrong as f64 <= (1.0 - AGREEMENT) * self.rows as f64 || (!calibrated && wrong == 1);
        labels && self.error.is_none_or(|error| error <= REGRESSOR_ERROR)
    }

    fn show(&self) -> String {
        match self.error {
            Some(error) => format!("error {:.2} %", 100.0 * error),
            None if self.ties > 0 => {
                format!("{} of {} ({} ties)", self.rows - self.flips, self.rows, self.ties)
            }
            None => format!("{} of {}", self.rows - self.flips, self.rows),
        }
    }
}

/// The rows of a reference as CSV text.
fn csv(rows: &[f64], width: usize) -> String {
    let mut text = String::new();
    for row in rows.chunks_exact(width) {
        let cells: Vec<String> = row.iter().map(ToString::to_string).collect();
        writeln!(text, "{}", cells.join(",")).unwrap();
    }
    text
}

fn plan(path: &Path, bytes: &[u8], calibration: Option<&str>) -> Result<Plan, String> {
    let name = path.file_name().unwrap().to_string_lossy();
    let sources = Sources {
        model: Named { name: &name, bytes },
        spec: None,
        calibration: calibration.map(|text| Named { name: "x.csv", bytes: text.as_bytes() }),
        surroundings: Surroundings::default(),
        resolver: &Folder(path.parent().unwrap().to_owned()),
    };
    compile::plan(&sources, &Options::default()).map_err(|reasons| {
        let first = reasons.first().expect("a refusal has a reason");
        let more = match reasons.len() {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        format!("{}: {}{more}", first.code.id, first.message)
    })
}

/// Judges the rows of the reference with the integer network.
fn agreement(path: &Path, bytes: &[u8], plan: &Plan, text: &str) -> Agreement {
    let reference = npz::read(&std::fs::read(path.with_extension("npz")).unwrap());
    let graph = Independent::parse_from_bytes(bytes).unwrap().graph.unwrap();
    let network = plan.network.get();
    let parsed = features::parse("x.csv", text.as_bytes(), &network.inputs, Columns::ByPosition).unwrap();
    let judged: Vec<Vec<i64>> = parsed.iter().map(|row| interpret::outputs(network, row)).collect();
    let mut result = Agreement { rows: judged.len(), ..Agreement::default() };
    let mut wrong: Vec<bool> = vec![false; judged.len()];
    let mut near: Vec<bool> = vec![false; judged.len()];
    for output in &graph.output {
        let Some(array) = reference_of(&reference, &graph, &output.name) else { continue };
        if is_left_out(&plan.model, &output.name) {
            continue;
        }
        let meaning = meaning(&graph, &output.name);
        let own = plan.model.outputs().position(|own| own.names.contains(&output.name)).unwrap_or(0);
        let head = plan.model.outputs().nth(own).unwrap();
        let of_row = |raw: &[i64]| {
            let (output, values) = network.decision.parts(raw).nth(own).unwrap();
            (interpret::label(output.rule, values), values.to_vec(), network.decision.unit_of(output))
        };
        if meaning == Meaning::Label {
            for ((raw, theirs), wrong) in judged.iter().zip(array.labels()).zip(&mut wrong) {
                let label = of_row(raw).0.unwrap() as usize;
                let named =
                    head.classes.as_ref().map_or_else(|| label.to_string(), |classes| classes[label].clone());
                *wrong |= named != theirs;
            }
            continue;
        }
        let mut numbers = array.numbers().to_vec();
        if let Some((scale, Some(zero))) = last_rounding(&graph, &output.name) {
            numbers.iter_mut().for_each(|integer| *integer = (*integer - zero) * scale);
        }
        let width = numbers.len() / judged.len();
        if head.head == Head::Scores {
            let low = numbers.iter().copied().fold(f64::INFINITY, f64::min);
            let high = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let mut worst: f64 = 0.0;
            for (raw, theirs) in judged.iter().zip(numbers.chunks_exact(width)) {
                let (_, values, unit) = of_row(raw);
                for (ours, wanted) in values.iter().zip(theirs) {
                    worst = worst.max((*ours as f64 * unit - wanted).abs());
                }
            }
            result.error = Some(worst / (high - low));
            continue;
        }
        for (index, (raw, theirs)) in judged.iter().zip(numbers.chunks_exact(width)).enumerate() {
            let Some((label, margin)) = label_of(meaning, theirs) else { continue };
            wrong[index] |= of_row(raw).0 != Some(label);
            near[index] |= margin < TIE;
        }
    }
    result.flips = wrong.iter().filter(|wrong| **wrong).count();
    result.ties = wrong.iter().zip(&near).filter(|(wrong, near)| **wrong && **near).count();
    result
}

/// The label that the numbers of an output say, and by how much; `None` for numbers that say none.
fn label_of(meaning: Meaning, values: &[f64]) -> Option<(u32, f64)> {
    let largest = values.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    match (meaning, values) {
        (Meaning::Sigmoid, [p]) => Some((u32::from(*p > 0.5), (p - 0.5).abs())),
        (Meaning::Column(1), [p]) => Some((u32::from(*p > 0.5), (p - 0.5).abs())),
        (Meaning::Decision, [z]) => Some((u32::from(*z > 0.0), z.abs())),
        (Meaning::Decisions { flipped: true }, [z, _]) => Some((u32::from(*z > 0.0), z.abs() / largest)),
        (_, [_, _, ..]) => {
            let best = Head::Logits.label(values)?;
            let other =
                values.iter().enumerate().filter(|(index, _)| *index != best).map(|(_, value)| *value);
            let margin = values[best] - other.fold(f64::NEG_INFINITY, f64::max);
            Some((u32::try_from(best).ok()?, margin / largest))
        }
        _ => None,
    }
}

/// One line of the list.
fn line(prefix: &str, path: &Path) -> (String, bool, bool) {
    let bytes = std::fs::read(path).unwrap();
    let name = format!("{prefix}{}", path.file_stem().unwrap().display());
    let refused = |reason: String| format!("| {name} | refused | {} |\n", reason.replace('|', "\\|"));
    let model: Model =
        match crate::onnx::import("model.onnx", &bytes, &Folder(path.parent().unwrap().to_owned())) {
            Ok(model) => model,
            Err(_) => {
                let reason = plan(path, &bytes, None).expect_err("what is not imported is not compiled");
                return (refused(reason), false, true);
            }
        };
    let reference = npz::read(&std::fs::read(path.with_extension("npz")).unwrap());
    let text = csv(&rows(&reference), model.input_count());
    let mut columns = Vec::new();
    let mut holds = true;
    for calibration in [None, Some(text.as_str())] {
        match plan(path, &bytes, calibration) {
            Ok(plan) => {
                let agreement = agreement(path, &bytes, &plan, &text);
                holds &= agreement.holds(calibration.is_some());
                columns.push(agreement.show());
            }
            Err(reason) => {
                holds = false;
                columns.push(reason);
            }
        }
    }
    (format!("| {name} | compiled | {} |\n", columns.join(" | ")), true, holds)
}

fn list(folder: &Path) -> (String, Vec<String>) {
    let mut compiled = String::new();
    let mut refused = String::new();
    let mut failing = Vec::new();
    for (prefix, folder) in [("", folder.to_owned()), ("negative/", folder.join("negative"))] {
        for path in models(&folder) {
            let start = std::time::Instant::now();
            let (line, imported, holds) = line(prefix, &path);
            eprint!("{:6} ms {line}", start.elapsed().as_millis());
            if !holds {
                failing.push(line.clone());
            }
            if imported { &mut compiled } else { &mut refused }.push_str(&line);
        }
    }
    let count = |lines: &str| lines.lines().count();
    let text = format!(
        "{MARKER}\n{} files compile:\n\n| file | | labels, calibrated on the scaler | labels, calibrated on the rows |\n\
         |---|---|---|---|\n{compiled}\n{} files are refused:\n\n| file | | first reason |\n|---|---|---|\n{refused}",
        count(&compiled),
        count(&refused)
    );
    (text, failing)
}

#[test]
fn agreement_over_the_corpus_is_as_listed() {
    let Some(folder) = corpus() else {
        eprintln!("SKIP agreement_over_the_corpus_is_as_listed: ../shared/data/onnx-exports is missing");
        return;
    };
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/import.md");
    let (text, failing) = list(&folder);
    assert!(failing.is_empty(), "labels disagree on too many rows:\n{}", failing.concat());
    let old = std::fs::read_to_string(&document).unwrap();
    let (before, _) = old.split_once(MARKER).expect("the document has the list's marker");
    let new = format!("{before}{text}");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&document, &new).unwrap();
        return;
    }
    assert!(old == new, "the list of the corpus changed; look at the difference after `BLESS=1`");
}

#[test]
fn committed_exports_agree_in_integers() {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/exports");
    for path in models(&folder) {
        let (line, _, holds) = line("", &path);
        eprint!("{line}");
        assert!(holds, "{line}");
    }
}
