//! The ground truth: when which host attacked how.

use std::net::IpAddr;

/// Nanoseconds before and after an attack's window in which a flow's first packet may come.
const BEFORE: u64 = 1_000_000_000;
const AFTER: u64 = 2_000_000_000;

/// All attacks of a capture.
pub struct Attacks {
    attacks: Vec<Attack>,
}

struct Attack {
    start_ns: u64,
    end_ns: u64,
    source: IpAddr,
    kind: Kind,
}

/// What is attacked with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    pub name: String,
    /// In no training run.
    pub held_out: bool,
}

impl Attacks {
    /// Reads `labels.csv`.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut attacks = Vec::new();
        let mut rows = csv::Reader::from_reader(text.as_bytes());
        for row in rows.records() {
            let row = row.map_err(|error| format!("labels: {error}"))?;
            let cell = |index: usize| row.get(index).unwrap_or_default();
            let wrong = |what: &str| format!("labels: {what} in {row:?}");
            attacks.push(Attack {
                start_ns: cell(0).parse().map_err(|_| wrong("no start"))?,
                end_ns: cell(1).parse().map_err(|_| wrong("no end"))?,
                source: cell(2).parse().map_err(|_| wrong("no source"))?,
                kind: Kind { name: cell(4).to_owned(), held_out: cell(5) == "1" },
            });
        }
        Ok(Self { attacks })
    }

    /// The attack that a flow belongs to, if it is one.
    pub fn kind(&self, ends: [IpAddr; 2], first_ns: u64) -> Option<&Kind> {
        let during = |attack: &&Attack| {
            ends.contains(&attack.source)
                && first_ns.saturating_add(BEFORE) >= attack.start_ns
                && first_ns <= attack.end_ns.saturating_add(AFTER)
        };
        self.attacks.iter().find(during).map(|attack| &attack.kind)
    }

    /// Whether a host attacks at any time.
    pub fn is_attacker(&self, host: IpAddr) -> bool {
        self.attacks.iter().any(|attack| attack.source == host)
    }
}
