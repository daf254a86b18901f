//! `nnbpf fuse`: how many packets may be dropped before the detector stops dropping by itself.

use nnbpf_compiler::diag::Outcome;
use nnbpf_compiler::ir::flow::guard::{Fuse as State, WHOLE};
use nnbpf_runtime_loader::Loaded;
use nnbpf_runtime_loader::installation::{Installation, prepare_fuse};

use super::record::{percent, share};
use super::refused;
use super::target::Target;
use super::time::WallClock;

/// Packets of a window, unless the user says otherwise.
const WINDOW: u32 = 10_000;

/// Set, show or reset the fuse: past its limit the detector falls back to monitor mode by itself.
#[derive(clap::Args)]
pub(crate) struct Fuse {
    #[command(flatten)]
    limit: Limit,
    /// Take the fuse out.
    #[arg(long, conflicts_with_all = ["max_drop_rate", "window", "reset"])]
    off: bool,
    /// Make a blown fuse whole and enforce again.
    #[arg(long, conflicts_with_all = ["max_drop_rate", "window"])]
    reset: bool,
    #[command(flatten)]
    target: Target,
}

/// The fuse's settings, for every command that takes them.
#[derive(clap::Args)]
pub(crate) struct Limit {
    /// Greatest share of dropped packets, such as 20% or 0.5%.
    #[arg(long, value_name = "PERCENT", value_parser = millionths)]
    max_drop_rate: Option<u32>,
    /// The share is one of at least so many packets [default: 10000].
    #[arg(long, value_name = "N", requires = "max_drop_rate", value_parser = clap::value_parser!(u32).range(1..))]
    window: Option<u32>,
}

impl Limit {
    /// Sets the fuse of an object that is not attached yet, where the user asked for one.
    pub(crate) fn prepare(&self, loaded: &Loaded) -> Outcome<()> {
        let Some(limit) = self.max_drop_rate else { return Ok(()) };
        prepare_fuse(loaded, limit, self.window.unwrap_or(WINDOW)).map_err(refused)
    }

    /// Sets the fuse where the user asked for one.
    pub(crate) fn apply(&self, installation: &Installation) -> Outcome<()> {
        let Some(limit) = self.max_drop_rate else { return Ok(()) };
        installation.set_fuse(limit, self.window.unwrap_or(WINDOW)).map_err(refused)
    }
}

impl Fuse {
    pub(crate) fn run(&self) -> Outcome<()> {
        let installation = self.target.open()?;
        if self.off {
            installation.set_fuse(0, 0).map_err(refused)?;
        }
        if self.reset {
            let was_blown = installation.reset_fuse().map_err(refused)?;
            println!("{}", if was_blown { "fuse reset: enforcing" } else { "the fuse was whole" });
        }
        self.limit.apply(&installation)?;
        let clock = WallClock::of(&installation).map_err(refused)?;
        println!("fuse: {}", describe(&installation.fuse().map_err(refused)?, clock));
        Ok(())
    }
}

/// The fuse in words.
pub(super) fn describe(fuse: &State, clock: WallClock) -> String {
    let limit = percent(fuse.limit.into());
    match (fuse.blown, fuse.limit) {
        (Some(blown), _) => format!(
            "blown at {}, share {} ({} of {} packets dropped, limit {limit})",
            clock.show(blown.at_ns),
            percent(share(blown.drops, blown.packets)),
            blown.drops,
            blown.packets,
        ),
        (None, 0) => "off".to_owned(),
        (None, _) => format!("at most {limit} dropped of {} packets", fuse.window),
    }
}

/// Reads percent.
fn millionths(text: &str) -> Result<u32, String> {
    let wrong = || "write a share above 0 and up to 100 percent, such as `20%` or `0.5%`".to_owned();
    let number = text.trim().trim_end_matches('%').trim();
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 4 {
        return Err(wrong());
    }
    let part = format!("{part:0<4}").parse::<u64>().map_err(|_| wrong())?;
    let whole = whole.parse::<u64>().ok().and_then(|whole| whole.checked_mul(10_000)).ok_or_else(wrong)?;
    let millionths = whole.saturating_add(part);
    if millionths == 0 || millionths > WHOLE {
        return Err(wrong());
    }
    u32::try_from(millionths).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::millionths;

    #[test]
    fn percent_is_read_exactly() {
        for (text, read) in [("20%", 200_000), ("0.5%", 5_000), ("100", 1_000_000), ("0.0001 %", 1)] {
            assert_eq!(millionths(text), Ok(read), "{text}");
        }
        for wrong in ["", "0", "0%", "101%", "-1%", "1.%", ".5%", "0.00001%", "x", "99999999999999999999"] {
            assert!(millionths(wrong).is_err(), "{wrong}");
        }
    }
}
