//! The command line's definition: one place for every argument and its help text.
//!
//! Values are only split here; what they mean is decided by the modules that use them.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use nnbpf_compiler::spec::Parameter;

/// Compiles an ONNX classifier and a feature specification to an eBPF object.
#[derive(Debug, Parser)]
#[command(name = "nnbpfc", version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Exit status: 0 done; 1 the input was refused; 2 wrong usage.")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub compile: CompileArgs,
}

/// Everything but compiling.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Judge feature rows.
    Eval(EvalArgs),
    /// Judge the packets of a capture.
    Replay(ReplayArgs),
    /// Write the features of a capture, for training.
    Extract(ExtractArgs),
    /// Measure nanoseconds in the kernel's own test run.
    Bench(BenchArgs),
    /// Show what cost is to be had at what accuracy: lanes, nanoseconds, flips, errors of scores.
    Explore(ExploreArgs),
    /// Look for the closest inputs whose label quantisation changes, and prove how many there can be.
    Flips(FlipsArgs),
    /// Show what is inside an object.
    Inspect(InspectArgs),
    /// Check an object again from its bytes alone.
    Verify(VerifyArgs),
    /// Show what a specification costs, feature by feature, without a model.
    Explain(ExplainArgs),
    /// Rank a specification's features by what they are worth and what they cost.
    Rank(RankArgs),
    /// Check specifications, without a model.
    Check(CheckArgs),
    /// Bring specifications into the one layout.
    Fmt(FmtArgs),
}

/// `nnbpfc MODEL SPEC -o OBJ`.
#[derive(Debug, Args)]
pub struct CompileArgs {
    /// The ONNX model.
    #[arg(required = true)]
    pub model: Option<PathBuf>,
    /// The feature specification.
    #[arg(required = true)]
    pub spec: Option<PathBuf>,
    /// Where the object goes, or the parameters with --like.
    #[arg(short, long, required = true, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub surroundings: SpecArgs,
    #[command(flatten)]
    pub accuracy: AccuracyArgs,
    /// Compile only the parameters of a retrained model, into the plan of this object.
    #[arg(long, value_name = "OBJ", conflicts_with_all = ["split", "weights", "kernel", "report"])]
    pub like: Option<PathBuf>,
    /// Write what was decided and measured as JSON.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Refuse a model that is predicted to take longer than so many nanoseconds, and say what would have to give.
    #[arg(long, value_name = "N", conflicts_with = "like", value_parser = nanoseconds)]
    pub max_ns: Option<f64>,
    #[command(flatten)]
    pub target: TargetArgs,
    /// Take packets' time from the kernel, or from `.data.nn_clock`, which whoever replays a capture writes.
    #[arg(long, value_enum, default_value_t = ClockArg::Kernel)]
    pub clock: ClockArg,
    /// Do not check the object again, as `nnbpfc verify` and the loader do, before it is written.
    #[arg(long, conflicts_with = "like")]
    pub no_verify: bool,
    /// Write a Makefile rule that names every input.
    #[arg(long, value_name = "FILE")]
    pub depfile: Option<PathBuf>,
    /// Explain a diagnostic's code, such as E0201; alone on the line.
    #[arg(long, value_name = "CODE", exclusive = true)]
    pub explain: Option<String>,
}

fn nanoseconds(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "write a number of nanoseconds above zero, for example `--max-ns 200`".to_owned())
}

/// What a specification is compiled with.
#[derive(Debug, Clone, Args)]
pub struct SpecArgs {
    /// Replace the value of `param NAME = …;` in the specification; may be repeated.
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parameter)]
    pub parameters: Vec<Parameter>,
    /// Look here too for files that the specification uses; may be repeated.
    #[arg(short = 'I', value_name = "DIR")]
    pub include: Vec<PathBuf>,
}

fn parameter(text: &str) -> Result<Parameter, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok(Parameter { name: name.trim().to_owned(), value: value.trim().to_owned() })
        }
        Some(_) | None => Err("write a name, `=` and a number, for example `--param idle=90s`".to_owned()),
    }
}

/// What decides the accuracy of the fixed-point form.
#[derive(Debug, Args)]
pub struct AccuracyArgs {
    /// Feature rows to calibrate on.
    #[arg(long, value_name = "CSV")]
    pub calibrate: Option<PathBuf>,
    /// Labels of calibration rows that may differ from the float model: a percentage or a count.
    #[arg(long, value_name = "N%|N", default_value = "0.1%")]
    pub max_flips: String,
}

/// What code is made for.
#[derive(Debug, Clone, Args)]
pub struct TargetArgs {
    /// The oldest kernel that the object must load on.
    #[arg(long, value_name = "VERSION", default_value = "6.1")]
    pub kernel: String,
    /// Split the model into a chain of tail calls: only when a budget demands it, or at every layer.
    #[arg(long, value_enum, default_value_t = Split::Auto)]
    pub split: Split,
    /// Keep weights in a map that can be updated, or bake them into the code.
    #[arg(long, value_enum, default_value_t = Weights::Map)]
    pub weights: Weights,
}

/// `nnbpfc eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// The ONNX model.
    pub model: PathBuf,
    /// The feature specification; without one, columns are taken by position.
    pub spec: Option<PathBuf>,
    /// The rows to judge.
    #[arg(long, value_name = "CSV")]
    pub features: PathBuf,
    #[command(flatten)]
    pub surroundings: SpecArgs,
    #[command(flatten)]
    pub accuracy: AccuracyArgs,
    /// What executes the model.
    #[arg(long, value_enum)]
    pub engine: EvalEngine,
    #[command(flatten)]
    pub target: TargetArgs,
    /// Where the verdicts go.
    #[arg(short, long, value_name = "CSV")]
    pub output: PathBuf,
}

/// `nnbpfc replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The ONNX model.
    pub model: PathBuf,
    /// The feature specification.
    pub spec: PathBuf,
    /// A pcap or pcapng file.
    pub capture: PathBuf,
    #[command(flatten)]
    pub surroundings: SpecArgs,
    #[command(flatten)]
    pub accuracy: AccuracyArgs,
    /// What executes packet path and model.
    #[arg(long, value_enum)]
    pub engine: ReplayEngine,
    #[command(flatten)]
    pub target: TargetArgs,
    /// Act on verdicts as the loader's enforce mode does; without it, verdicts are only recorded.
    #[arg(long)]
    pub enforce: bool,
    /// Sweep idle flows every so many seconds, as `nnbpf sweep --follow` does, until none is left.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub sweep: Option<u32>,
    /// Where the verdicts go.
    #[arg(short, long, value_name = "CSV")]
    pub output: PathBuf,
}

/// `nnbpfc extract`.
#[derive(Debug, Args)]
pub struct ExtractArgs {
    /// The feature specification.
    pub spec: PathBuf,
    /// A pcap or pcapng file.
    pub capture: PathBuf,
    #[command(flatten)]
    pub surroundings: SpecArgs,
    /// Where the features go.
    #[arg(short, long, value_name = "CSV")]
    pub output: PathBuf,
}

/// `nnbpfc bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The ONNX model.
    #[arg(required_unless_present = "calibrate_cost")]
    pub model: Option<PathBuf>,
    /// The feature specification; with one, packets are measured too.
    pub spec: Option<PathBuf>,
    #[command(flatten)]
    pub surroundings: SpecArgs,
    #[command(flatten)]
    pub accuracy: AccuracyArgs,
    /// Split the model at every layer, as compiling would.
    #[arg(long, value_enum, default_value_t = Split::Auto)]
    pub split: Split,
    /// Keep weights in a map, as updates need it, or bake them into the code.
    #[arg(long, value_enum, default_value_t = Weights::Map)]
    pub weights: Weights,
    /// Measure nothing: write the objects that would be measured to this folder, for harnesses of their own.
    #[arg(long, value_name = "DIR", conflicts_with = "json")]
    pub objects: Option<PathBuf>,
    /// Measure networks of many shapes and fit the constants of the cost model to them.
    #[arg(long, conflicts_with_all = ["model", "spec", "calibrate", "json", "objects"])]
    pub calibrate_cost: bool,
    /// Where the constants go, with the measurements that they were fitted to.
    #[arg(short, long, value_name = "FILE", requires = "calibrate_cost")]
    pub output: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `nnbpfc explore`.
#[derive(Debug, Args)]
pub struct ExploreArgs {
    /// The ONNX model.
    pub model: PathBuf,
    /// The feature specification; without one, columns are taken by position.
    pub spec: Option<PathBuf>,
    #[command(flatten)]
    pub surroundings: SpecArgs,
    /// Feature rows to calibrate on.
    #[arg(long, value_name = "CSV")]
    pub calibrate: Option<PathBuf>,
    /// Leave out what changes more labels: a percentage of the rows or a count.
    #[arg(long, value_name = "N%|N", default_value = "2%")]
    pub max_flips: String,
    /// Measure each network in the kernel's own test run as well.
    #[arg(long)]
    pub measure: bool,
    /// Draw nanoseconds against flips.
    #[arg(long, value_name = "SVG")]
    pub plot: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `nnbpfc flips`.
#[derive(Debug, Args)]
pub struct FlipsArgs {
    /// The ONNX model.
    pub model: PathBuf,
    /// The feature specification.
    pub spec: PathBuf,
    #[command(flatten)]
    pub surroundings: SpecArgs,
    /// Feature rows to calibrate on and to look near.
    #[arg(long, value_name = "CSV")]
    pub calibrate: PathBuf,
    /// Labels of calibration rows that may differ from the float model: a percentage or a count.
    #[arg(long, value_name = "N%|N", default_value = "0.1%")]
    pub max_flips: String,
    /// Another seed looks at other inputs.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Inputs to look at along the boundary, about, besides those on the way there.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub tries: u64,
    /// Boxes that the proof may divide the calibrated box into.
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub boxes: usize,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `nnbpfc inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// An object that nnbpfc wrote.
    pub object: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `nnbpfc verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// An object that nnbpfc wrote.
    pub object: PathBuf,
    /// The model that the object is said to be compiled from.
    #[arg(long, value_name = "ONNX")]
    pub model: Option<PathBuf>,
    /// The feature rows that it was calibrated on.
    #[arg(long, value_name = "CSV", requires = "model")]
    pub calibrate: Option<PathBuf>,
    /// The feature specification that the object is said to be compiled from.
    #[arg(long, value_name = "SPEC")]
    pub spec: Option<PathBuf>,
    #[command(flatten)]
    pub surroundings: SpecArgs,
    /// Leave out the comparison of the packet path with the specification, which only the release that compiled the
    /// object can make.
    #[arg(long)]
    pub network_only: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `nnbpfc explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The feature specification.
    pub spec: PathBuf,
    #[command(flatten)]
    pub surroundings: SpecArgs,
    /// The oldest kernel that the object must load on.
    #[arg(long, value_name = "VERSION", default_value = "6.1")]
    pub kernel: String,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `nnbpfc rank`.
#[derive(Debug, Args)]
pub struct RankArgs {
    /// The feature specification.
    pub spec: PathBuf,
    #[command(flatten)]
    pub surroundings: SpecArgs,
    /// Labelled rows: columns match features by name, other columns are ignored.
    #[arg(long, value_name = "CSV")]
    pub features: PathBuf,
    /// The column that holds the label.
    #[arg(long, value_name = "COLUMN")]
    pub labels: String,
    /// The oldest kernel that the object must load on.
    #[arg(long, value_name = "VERSION", default_value = "6.1")]
    pub kernel: String,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `nnbpfc check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The feature specifications.
    #[arg(value_name = "SPEC", required = true)]
    pub specs: Vec<PathBuf>,
    #[command(flatten)]
    pub surroundings: SpecArgs,
}

/// `nnbpfc fmt`.
#[derive(Debug, Args)]
pub struct FmtArgs {
    /// The feature specifications, rewritten in place; `-` reads standard input and writes standard output.
    #[arg(value_name = "SPEC", required = true)]
    pub specs: Vec<PathBuf>,
    /// Change nothing; name the files that would change, and exit with 1 if there are any.
    #[arg(long)]
    pub check: bool,
}

/// When the model becomes a chain of programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Split {
    Auto,
    Layer,
}

/// Where packets' time comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClockArg {
    Kernel,
    Replay,
}

/// Where weights live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Weights {
    Map,
    Const,
}

/// What executes feature rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EvalEngine {
    /// The float model in double precision.
    Float,
    /// The fixed-point interpreter.
    Ir,
    /// The bytecode in the user-space virtual machine.
    Vm,
    /// The bytecode in this machine's kernel.
    Kernel,
}

/// What executes packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReplayEngine {
    Ir,
    Vm,
    Kernel,
}
