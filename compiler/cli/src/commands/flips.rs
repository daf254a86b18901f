//! `nnbpfc flips`: the closest inputs whose label quantisation changes, and what is proved about all others.

use nnbpf_compiler::flips::{self, Flip, Options, Report};

use crate::args::{AccuracyArgs, FlipsArgs};
use crate::inputs::Files;
use crate::{Refusal, files};

pub fn run(args: &FlipsArgs) -> Result<(), Refusal> {
    let accuracy =
        AccuracyArgs { calibrate: Some(args.calibrate.clone()), max_flips: args.max_flips.clone() };
    let files = Files::read(&args.model, Some(&args.spec), &args.surroundings, &accuracy)?;
    let plan = files.plan(&accuracy)?;
    let options = Options { seed: args.seed, tries: args.tries, boxes: args.boxes };
    let report = flips::run(&plan, &files::name(&args.model), options)?;
    if args.json {
        // A structure of numbers and names always serialises.
        println!("{}", serde_json::to_string_pretty(&report).unwrap_or_default());
    } else {
        print(&report);
    }
    Ok(())
}

fn print(report: &Report) {
    let Report { rows, rows_flipped, searched, found, .. } = report;
    println!("{rows_flipped} of {rows} calibration rows change their label");
    if report.none_exists {
        println!(
            "proved: no input changes its label: comparisons with thresholds are exact for every raw value, and so \
             are sums of leaves"
        );
        return;
    }
    println!("searched {searched} inputs near the decision boundary (seed {}): {found} flips", report.seed);
    if !report.closest.is_empty() {
        println!();
        println!("closest to a row, in standard deviations of the rows:");
        for flip in &report.closest {
            show(flip);
        }
        println!();
    }
    proved(report);
}

fn show(flip: &Flip) {
    let tie = if flip.tie { ", single precision too" } else { "" };
    let cut = if flip.cut { ", an activation is cut off" } else { "" };
    println!(
        "  {:.3e} from row {}: {} by {:.2e} in floats, {} by {:.2e} in integers{tie}{cut}",
        flip.distance,
        flip.row,
        flip.float.join("/"),
        flip.margin,
        flip.integer.join("/"),
        flip.integer_margin
    );
    let features: Vec<String> =
        flip.features.iter().map(|feature| format!("{} {}", feature.name, feature.value)).collect();
    println!("    {}", features.join(", "));
}

fn proved(report: &Report) {
    if let Some(reason) = &report.unproved {
        println!("nothing is proved: {reason}");
        return;
    }
    let most =
        |of: fn(&nnbpf_compiler::bounds::OutputBound) -> f64| report.error.iter().map(of).fold(0.0, f64::max);
    println!(
        "proved: outputs are off by at most {:.3e}, and {:.3e} where no activation is cut off",
        most(|error| error.bound),
        most(|error| error.unsaturated)
    );
    if let Some(beyond) = report.rows_beyond_error {
        println!("proved: {beyond} of {} rows decide by more than that", report.rows);
    }
    for around in &report.surroundings {
        println!(
            "proved: no label changes within {} % of the calibrated ranges around {} of {} rows",
            around.radius * 100.0,
            around.safe,
            around.rows
        );
    }
    if let Some(volume) = &report.volume {
        println!(
            "proved: at most {:.4} % of the calibrated box can change its label ({} boxes; {:.1} % lie in boxes of one \
             label)",
            volume.unsafe_share * 100.0,
            volume.boxes,
            volume.constant_share * 100.0
        );
    }
}
