//! CSV bytes to rows of raw values.

use csv::{ReaderBuilder, StringRecord};

use super::decimal::{NotDecimal, read};
use crate::diag::codes::rows::{
    COLUMN_COUNT, DUPLICATE_COLUMN, EMPTY, ENCODING, MISSING_COLUMN, NOT_A_NUMBER, RAGGED,
};
use crate::diag::{Code, Diagnostic, Origin, Outcome};
use crate::ir::Input;

/// Mistakes reported from one file; after that many, the rest is most likely the same mistake again.
const MOST_ERRORS: usize = 20;

/// How columns match features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Columns {
    /// The first line is a header; columns of other names are ignored.
    ByName,
    /// One column for each feature, in order. A first line that has a cell which is no number is a header.
    ByPosition,
}

/// Rows of raw values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    /// Features in a row.
    pub width: usize,
    /// Row-major.
    pub values: Vec<i64>,
}

impl Rows {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The rows in order.
    pub fn iter(&self) -> impl Iterator<Item = &[i64]> {
        self.values.chunks_exact(self.width.max(1))
    }
}

/// Reads `bytes`, named `file` in diagnostics, as rows for `inputs`.
///
/// # Errors
///
/// `E0501` to `E0507`, up to twenty of them.
pub fn parse(file: &str, bytes: &[u8], inputs: &[Input], columns: Columns) -> Outcome<Rows> {
    // A byte-order mark is not part of the first column's name.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    let mut record = StringRecord::new();
    let mut parser = Parser { file, inputs, errors: Vec::new() };
    let first = match reader.read_record(&mut record) {
        Ok(true) => record.clone(),
        Ok(false) => return Err(vec![parser.empty()]),
        Err(error) => return Err(vec![parser.unreadable(&error)]),
    };
    let (chosen, header) = match columns {
        Columns::ByName => (parser.by_name(&first), true),
        Columns::ByPosition => (parser.by_position(&first), is_header(&first)),
    };
    if !parser.errors.is_empty() {
        return Err(parser.errors);
    }
    let mut rows = Rows { width: inputs.len(), values: Vec::new() };
    if !header {
        parser.row(&first, first.len(), &chosen, &mut rows.values);
    }
    loop {
        if parser.errors.len() >= MOST_ERRORS {
            break;
        }
        match reader.read_record(&mut record) {
            Ok(true) => parser.row(&record, first.len(), &chosen, &mut rows.values),
            Ok(false) => break,
            Err(error) => {
                let unreadable = parser.unreadable(&error);
                parser.errors.push(unreadable);
                break;
            }
        }
    }
    if rows.is_empty() && parser.errors.is_empty() {
        let empty = parser.empty();
        parser.errors.push(empty);
    }
    if parser.errors.is_empty() { Ok(rows) } else { Err(parser.errors) }
}

/// Whether a first line names columns: some cell is neither a number nor a value that tools write for a
/// missing or infinite one.
fn is_header(record: &StringRecord) -> bool {
    let zero = crate::ir::FractionBits(0);
    record.iter().any(|cell| read(cell, zero) == Err(NotDecimal::Malformed))
}

struct Parser<'a> {
    file: &'a str,
    inputs: &'a [Input],
    errors: Vec<Diagnostic>,
}

impl Parser<'_> {
    fn by_name(&mut self, header: &StringRecord) -> Vec<usize> {
        let mut chosen = Vec::with_capacity(self.inputs.len());
        for input in self.inputs {
            let mut places = header.iter().enumerate().filter(|(_, name)| name.trim() == input.name);
            match (places.next(), places.next()) {
                (Some((position, _)), None) => chosen.push(position),
                (Some(_), Some((second, _))) => self.errors.push(Diagnostic::new(
                    &DUPLICATE_COLUMN,
                    self.at(1, Some(&input.name)),
                    format!("two columns are called `{}`, the second is column {}", input.name, second + 1),
                    "rename or remove one of them",
                )),
                (None, _) => self.errors.push(self.missing(header, &input.name)),
            }
        }
        chosen
    }

    fn missing(&self, header: &StringRecord, name: &str) -> Diagnostic {
        let like = header.iter().map(str::trim).find(|column| normal(column) == normal(name));
        let help = match like {
            Some(column) => format!("rename the column `{column}` to `{name}`"),
            None => format!("add a column `{name}`, or remove the feature from the specification"),
        };
        let columns: Vec<&str> = header.iter().map(str::trim).take(12).collect();
        Diagnostic::new(&MISSING_COLUMN, self.at(1, None), format!("there is no column `{name}`"), help)
            .with_note(format!("the first line is {}", columns.join(",")))
    }

    fn by_position(&mut self, first: &StringRecord) -> Vec<usize> {
        if first.len() != self.inputs.len() {
            let message =
                format!("the file has {} columns and the model {} inputs", first.len(), self.inputs.len());
            let error = Diagnostic::new(
                &COLUMN_COUNT,
                self.at(1, None),
                message,
                "give a specification, which matches columns by name, or remove the other columns",
            );
            self.errors.push(error);
        }
        (0..self.inputs.len()).collect()
    }

    fn row(&mut self, record: &StringRecord, cells: usize, chosen: &[usize], values: &mut Vec<i64>) {
        let line = record.position().map_or(0, |position| usize::try_from(position.line()).unwrap_or(0));
        if record.len() != cells {
            self.errors.push(Diagnostic::new(
                &RAGGED,
                self.at(line, None),
                format!("the row has {} cells and the first line {cells}", record.len()),
                "complete the row, or quote cells that contain a comma",
            ));
            return;
        }
        for (input, &column) in self.inputs.iter().zip(chosen) {
            let cell = record.get(column).unwrap_or_default();
            match read(cell, input.fraction_bits) {
                Ok(raw) => values.push(raw),
                Err(reason) => {
                    values.push(0);
                    let error = self.not_a_number(line, &input.name, cell, reason);
                    self.errors.push(error);
                }
            }
        }
    }

    fn not_a_number(&self, line: usize, column: &str, cell: &str, reason: NotDecimal) -> Diagnostic {
        let shown: String = cell.trim().chars().take(40).collect();
        let (message, help) = match reason {
            NotDecimal::Empty => ("the cell is empty".to_owned(), "write a number, or drop the row"),
            NotDecimal::NaN => (format!("`{shown}` is not a number"), "write a number, or drop the row"),
            NotDecimal::Infinite => (
                format!("`{shown}` is not finite"),
                "write the largest value that can occur, or drop the row",
            ),
            NotDecimal::Malformed => (
                format!("`{shown}` is not a decimal number"),
                "write numbers like 17, -0.25 or 1.5e6, with a point and without separators",
            ),
        };
        Diagnostic::new(&NOT_A_NUMBER, self.at(line, Some(column)), message, help)
    }

    fn empty(&self) -> Diagnostic {
        let code: &'static Code = &EMPTY;
        let origin = Origin::File { file: self.file.to_owned() };
        Diagnostic::new(code, origin, "the file has no rows", "give a file with one row for each flow")
    }

    fn unreadable(&self, error: &csv::Error) -> Diagnostic {
        let line = error.position().map_or(1, |position| usize::try_from(position.line()).unwrap_or(1));
        let help = "save the file as UTF-8 text with cells separated by commas";
        Diagnostic::new(&ENCODING, self.at(line, None), "the line is not UTF-8 text", help)
    }

    fn at(&self, line: usize, column: Option<&str>) -> Origin {
        Origin::Row { file: self.file.to_owned(), line, column: column.map(str::to_owned) }
    }
}

/// A column name without what tools change: case, blanks and underscores.
pub(super) fn normal(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}
