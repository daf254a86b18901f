//! The label of each row: one column of a CSV file, read beside the features.

use std::collections::BTreeMap;

use csv::{ReaderBuilder, StringRecord};

use super::read::normal;
use crate::diag::codes::rows::{CLASSES, DUPLICATE_COLUMN, ENCODING, NO_LABEL};
use crate::diag::{Diagnostic, Origin, Outcome};

/// More classes than this are numbers, not labels.
pub const MOST_CLASSES: usize = 64;

/// The label of each row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// In the order of their texts.
    pub names: Vec<String>,
    /// Position in `names`, one per row.
    pub of_rows: Vec<usize>,
}

/// Reads the labels of a file whose first line names the columns.
///
/// # Errors
///
/// `E0508` without such a column, and for a row without a label; `E0505` for two such columns; `E0509` unless there
/// are 2 to 64 classes; `E0507` for what is no text.
pub fn labels(file: &str, bytes: &[u8], column: &str) -> Outcome<Labels> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    let at = |line: usize, column: Option<&str>| Origin::Row {
        file: file.to_owned(),
        line,
        column: column.map(str::to_owned),
    };
    let unreadable = |error: &csv::Error| {
        let line = error.position().map_or(1, |position| usize::try_from(position.line()).unwrap_or(1));
        let help = "save the file as UTF-8 text with cells separated by commas";
        vec![Diagnostic::new(&ENCODING, at(line, None), "the line is not UTF-8 text", help)]
    };
    let mut header = StringRecord::new();
    reader.read_record(&mut header).map_err(|error| unreadable(&error))?;
    let mut places = header.iter().enumerate().filter(|(_, name)| name.trim() == column);
    let place = match (places.next(), places.next()) {
        (Some((place, _)), None) => place,
        (Some(_), Some((second, _))) => {
            let message = format!("two columns are called `{column}`, the second is column {}", second + 1);
            let help = "rename or remove one of them";
            return Err(vec![Diagnostic::new(&DUPLICATE_COLUMN, at(1, Some(column)), message, help)]);
        }
        (None, _) => return Err(vec![missing(at(1, None), &header, column)]),
    };
    let mut texts = Vec::new();
    let mut record = StringRecord::new();
    while reader.read_record(&mut record).map_err(|error| unreadable(&error))? {
        let text = record.get(place).unwrap_or_default().trim().to_owned();
        if text.is_empty() {
            let line = record.position().map_or(0, |p| usize::try_from(p.line()).unwrap_or(0));
            let help = "write a label, or drop the row";
            return Err(vec![Diagnostic::new(
                &NO_LABEL,
                at(line, Some(column)),
                "the row has no label",
                help,
            )]);
        }
        texts.push(text);
    }
    let mut classes: BTreeMap<&str, usize> = texts.iter().map(|text| (text.as_str(), 0)).collect();
    for (index, class) in classes.values_mut().enumerate() {
        *class = index;
    }
    if !(2..=MOST_CLASSES).contains(&classes.len()) {
        let (message, help) = match classes.keys().next() {
            Some(only) if classes.len() == 1 => (
                format!("every row has the label `{only}`"),
                "add rows of another class: one class alone needs no features",
            ),
            _ => (
                format!("the column `{column}` has {} different values", classes.len()),
                "name the column that holds the class; numbers are no labels",
            ),
        };
        return Err(vec![Diagnostic::new(&CLASSES, at(1, Some(column)), message, help)]);
    }
    let of_rows = texts.iter().filter_map(|text| classes.get(text.as_str()).copied()).collect();
    Ok(Labels { names: classes.into_keys().map(str::to_owned).collect(), of_rows })
}

fn missing(origin: Origin, header: &StringRecord, column: &str) -> Diagnostic {
    let like = header.iter().map(str::trim).find(|name| normal(name) == normal(column));
    let help = match like {
        Some(name) => format!("write `--labels {name}`"),
        None => "name the column that holds the label with `--labels COLUMN`".to_owned(),
    };
    let mut columns: Vec<&str> = header.iter().map(str::trim).collect();
    let last = columns.split_off(columns.len().saturating_sub(1));
    let first: Vec<&str> = columns.into_iter().take(11).collect();
    let all: Vec<&str> = first.into_iter().chain(last).collect();
    Diagnostic::new(&NO_LABEL, origin, format!("there is no column `{column}`"), help)
        .with_note(format!("the first line has {}", all.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> (&'static str, String) {
        let error = labels("flows.csv", text.as_bytes(), "label").unwrap_err().remove(0);
        (error.code.id, error.message)
    }

    #[test]
    fn labels_are_numbered_by_their_texts() {
        let read = labels("flows.csv", b"x,label\n1,benign\n2, attack\n3,benign\n", "label").unwrap();
        assert_eq!(read.names, ["attack", "benign"]);
        assert_eq!(read.of_rows, [1, 0, 1]);
    }

    #[test]
    fn what_are_no_labels() {
        assert_eq!(refusal("x,Label\n1,a\n").0, "E0508");
        assert_eq!(refusal("").0, "E0508");
        assert_eq!(refusal("label,x\na,1\n,2\n"), ("E0508", "the row has no label".to_owned()));
        assert_eq!(refusal("label,label\na,b\n").0, "E0505");
        assert_eq!(refusal("label\na\na\n").0, "E0509");
        assert_eq!(refusal("label\n"), ("E0509", "the column `label` has 0 different values".to_owned()));
        let numbers: String = (0..65).map(|n| format!("{n}\n")).collect();
        assert_eq!(refusal(&format!("label\n{numbers}")).0, "E0509");
    }
}
