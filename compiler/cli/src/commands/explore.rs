//! `nnbpfc explore`: what cost is to be had at what accuracy, as a table, as JSON and as a plot.

use std::path::Path;

use nnbpf_compiler::compile::Plan;
use nnbpf_compiler::quant::report::{LayerReport, Precision, QuantReport, Spread};
use serde::Serialize;

use crate::args::{AccuracyArgs, ExploreArgs};
use crate::commands::bench;
use crate::inputs::{Files, max_flips};
use crate::plot::{self, Mark};
use crate::{Refusal, files};

#[derive(Debug, Serialize)]
struct Report<'a> {
    calibrated: bool,
    rows: usize,
    points: Vec<Point<'a>>,
}

/// A network that is cheaper than all with fewer flips.
#[derive(Debug, Serialize)]
struct Point<'a> {
    predicted_ns: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    measured_ns: Option<i64>,
    flips: u64,
    /// Differences of raw outputs and of scores.
    #[serde(skip_serializing_if = "Option::is_none")]
    outputs: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scores: Option<Spread>,
    layers: Vec<Layer<'a>>,
    /// What would remain if one part were exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    precision: Option<&'a Precision>,
}

#[derive(Debug, Serialize)]
struct Layer<'a> {
    node: &'a str,
    lanes: usize,
    widths: &'a [u32],
    bits: Option<u8>,
    clamped: bool,
}

pub fn run(args: &ExploreArgs) -> Result<(), Refusal> {
    let accuracy = AccuracyArgs { calibrate: args.calibrate.clone(), max_flips: args.max_flips.clone() };
    let files = Files::read(&args.model, args.spec.as_deref(), &args.surroundings, &accuracy)?;
    let plans = files.frontier(max_flips(&args.max_flips)?)?;
    let measured = if args.measure { Some(bench::inferences(&plans)?) } else { None };
    let report = Report {
        calibrated: plans.first().is_some_and(|plan| plan.report.calibrated),
        rows: plans.first().map_or(0, |plan| plan.report.rows),
        points: plans
            .iter()
            .enumerate()
            .map(|(index, plan)| {
                point(&plan.report, measured.as_ref().and_then(|measured| measured.get(index).copied()))
            })
            .collect(),
    };
    if let Some(path) = &args.plot {
        draw(path, &report)?;
    }
    if args.json {
        // A structure of numbers and names always serialises.
        println!("{}", serde_json::to_string_pretty(&report).unwrap_or_default());
    } else {
        print_table(&report, &plans);
    }
    Ok(())
}

fn point(report: &QuantReport, measured_ns: Option<i64>) -> Point<'_> {
    Point {
        predicted_ns: report.predicted_ns,
        measured_ns,
        flips: report.flips,
        outputs: report.errors.as_ref().map(|errors| errors.outputs),
        scores: report.errors.as_ref().and_then(|errors| errors.scores),
        layers: report.layers.iter().map(layer).collect(),
        precision: report.precision.as_ref(),
    }
}

fn layer(layer: &LayerReport) -> Layer<'_> {
    let LayerReport { node, lanes, widths, bits, clamped, .. } = layer;
    Layer { node, lanes: *lanes, widths, bits: *bits, clamped: *clamped }
}

impl Point<'_> {
    /// Lanes of the layers: `3,4,2`, with the widths of uneven ones.
    fn lanes(&self) -> String {
        let lanes = self.layers.iter().map(|layer| match layer.widths {
            [first, others @ ..] if others.iter().any(|width| width != first) => {
                layer.widths.iter().map(u32::to_string).collect::<Vec<_>>().join("+")
            }
            _ => layer.lanes.to_string(),
        });
        lanes.collect::<Vec<_>>().join(",")
    }

    fn bits(&self) -> String {
        let bits = self.layers.iter().filter_map(|layer| layer.bits.map(|bits| bits.to_string()));
        bits.collect::<Vec<_>>().join(",")
    }

    fn ns(&self) -> f64 {
        self.measured_ns.map_or(self.predicted_ns, |ns| ns as f64)
    }
}

fn print_table(report: &Report<'_>, plans: &[Plan]) {
    let basis = if report.calibrated { "calibration rows" } else { "rows drawn from the scaler" };
    println!("{} {basis}; networks that are cheaper than all with fewer flips", report.rows);
    println!(
        "{:>20} {:>14} {:>10} {:>10} {:>7} {:>12} {:>12}",
        "lanes", "bits", "predicted", "measured", "flips", "score error", "mean"
    );
    for point in &report.points {
        let measured = point.measured_ns.map_or_else(|| "-".to_owned(), |ns| ns.to_string());
        let (most, mean) = point.scores.map_or_else(
            || ("-".to_owned(), "-".to_owned()),
            |s| (format!("{:.2e}", s.most), format!("{:.2e}", s.mean)),
        );
        println!(
            "{:>20} {:>14} {:>10.1} {measured:>10} {:>7} {most:>12} {mean:>12}",
            point.lanes(),
            point.bits(),
            point.predicted_ns,
            point.flips
        );
    }
    for (point, plan) in report.points.iter().zip(plans) {
        let Some(precision) = &plan.report.precision else { continue };
        println!();
        println!(
            "lanes {}: of {} flips in the {} nearest rows remain",
            point.lanes(),
            precision.flips,
            precision.rows
        );
        for part in &precision.parts {
            let scores =
                part.scores_if_exact.map_or_else(String::new, |s| format!(", score error {:.2e}", s.most));
            println!("{:>10}{scores}, were {} exact", part.flips_if_exact, part.name);
        }
        if let Some(why) = &precision.skipped {
            println!("not taken apart: {why}");
        }
    }
}

fn draw(path: &Path, report: &Report<'_>) -> Result<(), Refusal> {
    let marks: Vec<Mark> = report
        .points
        .iter()
        .map(|point| Mark { x: point.ns(), y: point.flips as f64, label: point.lanes() })
        .collect();
    let measured = report.points.iter().all(|point| point.measured_ns.is_some());
    let x = if measured { "ns of an inference, measured" } else { "ns of an inference, predicted" };
    let y = format!("labels that change, of {} rows", report.rows);
    files::write(path, plot::svg(&marks, x, &y).as_bytes()).map_err(Refusal::from)
}
