//! `nnbpf block`: a host whose packets are dropped in enforce mode.

use std::time::Duration;

use nnbpf_compiler::diag::Outcome;
use nnbpf_runtime_loader::hosts::Host;

use super::target::Target;
use super::{bad_host, refused};

/// Drop the packets of a host from its next one on (in enforce mode).
#[derive(clap::Args)]
pub(crate) struct Block {
    /// An IPv4 or IPv6 address.
    #[arg(value_name = "HOST")]
    host: String,
    /// For how long, such as 30s, 10min or 2h [default: until it is unblocked].
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    time: Option<Duration>,
    #[command(flatten)]
    target: Target,
}

impl Block {
    pub(crate) fn run(&self) -> Outcome<()> {
        let host = Host::parse(&self.host).map_err(|error| bad_host(&error))?;
        self.target.open()?.block(host, self.time).map_err(refused)?;
        match self.time {
            None => println!("{host}: blocked"),
            Some(time) => println!("{host}: blocked for {} s", time.as_secs()),
        }
        Ok(())
    }
}

/// Reads a whole number with a unit.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    let seconds: u64 = match unit.trim() {
        "s" => 1,
        "min" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return Err("write a number with `s`, `min`, `h` or `d`, such as `10min`".to_owned()),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| "write a number with `s`, `min`, `h` or `d`, such as `10min`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::duration;
    use std::time::Duration;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("10min"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("2 h"), Ok(Duration::from_secs(7200)));
        for wrong in ["", "10", "s", "-1s", "1.5h", "10m", "99999999999999999999s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
