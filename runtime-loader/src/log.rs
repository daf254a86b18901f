//! The verifier's log as a value: a short form for messages, the long form for files, and its counters.

use std::fmt;

/// What the verifier wrote about a program.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifierLog {
    text: String,
}

/// Lines of the short form.
const SHORT_LINES: usize = 4;

impl VerifierLog {
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.trim().is_empty()
    }

    /// The whole log.
    #[must_use]
    pub fn long(&self) -> &str {
        &self.text
    }

    /// The lines that say why a program was refused: the last ones before the counters.
    #[must_use]
    pub fn short(&self) -> String {
        let told: Vec<&str> = self
            .text
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty() && !is_counter(line))
            .collect();
        let start = told.len().saturating_sub(SHORT_LINES);
        told.get(start..).unwrap_or(&[]).join("\n")
    }

    /// The last source line that the log shows: the line of the specification or the layer that the refused
    /// instruction came from.
    #[must_use]
    pub fn source_line(&self) -> Option<&str> {
        let line = self.text.lines().rev().find(|line| line.trim_start().starts_with("; "))?;
        Some(line.trim_start().trim_start_matches("; ").trim_end())
    }

    /// Instructions that the verifier walked, from `processed N insns`.
    #[must_use]
    pub fn processed(&self) -> Option<u64> {
        let line = self.text.lines().rev().find(|line| is_counter(line))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }
}

impl fmt::Display for VerifierLog {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.short())
    }
}

fn is_counter(line: &str) -> bool {
    ["processed ", "verification time ", "stack depth ", "insns processed "]
        .iter()
        .any(|start| line.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::VerifierLog;

    const LOG: &str = "0: R1=ctx() R10=fp0\n; dense 0 @ model.onnx:3\n0: (79) r0 = *(u64 *)(r1 +100)\n\
        invalid bpf_context access off=100 size=8\nverification time 61 usec\nstack depth 0\n\
        processed 1 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0\n";

    #[test]
    fn short_form_ends_with_the_reason() {
        let log = VerifierLog::new(LOG);
        assert!(log.short().ends_with("invalid bpf_context access off=100 size=8"));
        assert!(!log.short().contains("processed"));
        assert_eq!(log.long(), LOG);
    }

    #[test]
    fn counters_and_source_line() {
        let log = VerifierLog::new(LOG);
        assert_eq!(log.processed(), Some(1));
        assert_eq!(log.source_line(), Some("dense 0 @ model.onnx:3"));
    }

    #[test]
    fn an_empty_log_has_neither() {
        let log = VerifierLog::default();
        assert!(log.is_empty());
        assert_eq!((log.processed(), log.source_line()), (None, None));
    }
}
